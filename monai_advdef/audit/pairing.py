"""Whether every image goes with its own label: lists that pair files by their order go wrong where one file is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai_advdef.audit.bundles.labels import SUFFIXES
from monai_advdef.data.layouts.rows import bare, inside
from monai_advdef.errors import DataError

_CHANNEL = re.compile(r"_\d{4}$")


def require_own_labels(cases: Sequence[Mapping[str, Any]], image_key: str, label_key: str) -> None:
    """Pass where no label is called like another image of the folder.

    Args:
        cases: of a data list, files under the two keys; what is no file, and labels in several files, are passed over.

    Raises:
        DataError: naming the image, its label, and the image that the label is called like.
    """
    stems = lru_cache(maxsize=None)(_stems)
    for case in cases:
        drawn = case.get(label_key)
        image, label = _file(case.get(image_key)), None if isinstance(drawn, (list, tuple)) else _file(drawn)
        if image is None or label is None or image.parent == label.parent:
            continue
        one, other = _stem(image), _stem(label)
        if one == other or re.match(re.escape(other) + r"(?!\d)", one):  # scan_norm goes with scan
            continue
        if owner := stems(image.parent).get(other):
            raise DataError(
                f"the list of data gives {image.name} the label {label.name}, which is called like the image {owner}; files are "
                "paired by their order, and one is missing or too many: put it right, or say by --images and --labels what belongs "
                "together"
            )


def _file(value: Any) -> Path | None:
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return Path(first) if isinstance(first, (str, os.PathLike)) and str(first) else None


def _stem(path: Path) -> str:
    stem = _CHANNEL.sub("", bare(path))
    return next((stem.removesuffix(end) for end in SUFFIXES if stem.endswith(end)), stem)


def _stems(folder: Path) -> dict[str, str]:
    return {_stem(path): path.name for path in inside(folder)} if folder.is_dir() else {}
