"""Packages that a bundle asks for and that are not installed here."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable

from monai_advdef.errors import DataError

CALLED = {
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "SimpleITK": "SimpleITK",
    "ignite": "pytorch-ignite",
}
OWN = "scripts"


def require_packages(statements: Iterable[str], where: str) -> None:
    """Raise for the first import statement whose package is not installed.

    Raises:
        DataError: what wants it, and what to install.
    """
    for statement in statements:
        node = ast.parse(statement.strip()).body[0]
        name = (
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name if isinstance(node, ast.Import) else ""
        )
        root = name.split(".")[0]
        if root and root != OWN and importlib.util.find_spec(root) is None:
            raise DataError(f"{where} wants the package {root}, which is not installed; run: pip install {CALLED.get(root, root)}")
