"""Which reader a DICOM file with labels needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import RTStructureSetStorage

from monai_advdef.dicom.rtstruct import read_rtstruct
from monai_advdef.dicom.seg_read import SEG_KINDS, read_seg
from monai_advdef.dicom.series_slices import BROKEN, is_dicom
from monai_advdef.errors import reading


def label_reader(path: Path) -> Callable[..., tuple[np.ndarray, dict[int, str]]] | None:
    """:func:`read_seg` or :func:`read_rtstruct`, as the file's SOPClassUID says; None where it is neither."""
    with reading(path, BROKEN, "fetch the file again"):
        if not path.is_file() or not is_dicom(path):
            return None
        kind = str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID", ""))
    return read_seg if kind in SEG_KINDS else read_rtstruct if kind == RTStructureSetStorage else None
