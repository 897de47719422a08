"""Which reader a DICOM file with labels needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.uid import RTStructureSetStorage

from monai_advdef.dicom.rtstruct import read_rtstruct
from monai_advdef.dicom.seg_read import read_seg
from monai_advdef.dicom.series_slices import SEG_KINDS, object_kind


def label_reader(path: Path) -> Callable[..., tuple[np.ndarray, dict[int, str]]] | None:
    """:func:`read_seg` or :func:`read_rtstruct`, as the file's SOPClassUID says; None where it is neither."""
    kind = object_kind(path)
    return read_seg if kind in SEG_KINDS else read_rtstruct if kind == RTStructureSetStorage else None
