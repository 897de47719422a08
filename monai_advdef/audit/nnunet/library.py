"""nnU-Net v2's own code, which is an extra: asked for where it is used, and without what it prints."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import Any

from monai_advdef.errors import DataError


def own(module: str) -> Any:
    """A module of nnU-Net or of what it brings, ``own("nnunetv2.paths")``.

    Raises:
        DataError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"an nnU-Net folder is run by nnU-Net's own preprocessing and architectures, and they are not installed ({error}); "
            "pip install 'monai_advdef[nnunet]'"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is printed inside is not shown: nnU-Net speaks of environment variables that inference does not need."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
