"""Checkpoints of someone else: tensors, numbers and numpy's arrays are read, and nothing is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_advdef.errors import DataError, reason

_SCALAR: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
_REBUILD: Any = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
_KINDS = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType")]
# what numpy's arrays and numbers are pickled with, under its names before and since version 2
ALLOWED: list[Any] = [np.ndarray, np.dtype, *_KINDS, _SCALAR, _REBUILD]
ALLOWED += [(_SCALAR, "numpy.core.multiarray.scalar"), (_REBUILD, "numpy.core.multiarray._reconstruct")]
BUILT_IN = ("collections.", "builtins.", "torch.", "_codecs.")


def load_safely(path: str | os.PathLike[str], trust: bool = False) -> Any:
    """What a file of ``torch.save`` holds, on the CPU.

    Args:
        path: the file.
        trust: unpickle whatever it holds, which may run code.

    Raises:
        DataError: no such file, or one that holds more than tensors, numbers, text and arrays, with what it asks for; or it is damaged.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; fetch the weights of the model (large_files.yml of a bundle says where they are)")
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        wanted = _wanted(path)
        what = f"{', '.join(wanted)} to be unpickled" if wanted else f"more than tensors and numbers ({reason(error)})"
        raise DataError(f"{path} wants {what}, which can run code; if you trust who made it, audit it with --trust") from error
    except Exception as error:
        raise DataError(f"{path} cannot be read as a checkpoint ({reason(error)}); fetch it again") from error


def _wanted(path: str | os.PathLike[str]) -> list[str]:
    """The names that a checkpoint asks for beyond what is allowed."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))
    except Exception:  # a file without torch's own header: what its pickle asks for is in the error
        return []
    ours = {a[1] if isinstance(a, tuple) else f"{a.__module__}.{a.__name__}" for a in ALLOWED}
    return sorted(set(names) - ours)
