"""Whether a CT volume can be used: one volume, in Hounsfield units."""

from __future__ import annotations

import numpy as np

from monai_advdef.data.ct.layouts import Scan
from monai_advdef.data.volume_files import require_volume
from monai_advdef.dicom.nifti import read_nifti
from monai_advdef.dicom.series import read_series
from monai_advdef.dicom.series_pixels import HU_LIMITS
from monai_advdef.errors import DataError


def check_hu(voxels: np.ndarray, name: str) -> None:
    """Make sure that voxels can be Hounsfield units: finite, in -10240 to 30710, and not all 0 or more, as raw CT values are.

    Fat is about -100 HU and air -1000, so a volume of a patient without any negative voxel is not in HU.

    Raises:
        DataError: naming ``name``, the value and the remedy.
    """
    bad = 0 if voxels.dtype.kind in "iu" else int((~np.isfinite(voxels)).sum())
    if bad:
        raise DataError(f"{name} holds {bad} NaN or infinite voxels; repair it or leave it out")
    low, high = float(voxels.min()), float(voxels.max())
    if low < HU_LIMITS[0] or high > HU_LIMITS[1]:
        raise DataError(
            f"{name} holds values from {low:g} to {high:g}, outside {HU_LIMITS[0]:g} to {HU_LIMITS[1]:g} HU, the widest CT scale; "
            "correct slope and intercept in the header, or convert the file again"
        )
    if low == high:
        raise DataError(f"{name} holds nothing but the value {low:g}; fetch it again or leave it out")
    if low >= 0:
        raise DataError(
            f"{name} holds values from {low:g} to {high:g} and none below 0, so they are no HU (air is -1000, fat -100); "
            "subtract the intercept (often 1024), or convert the file again from DICOM"
        )


def check_scan(scan: Scan) -> list[str]:
    """Read every voxel of a volume: a readable 3-D CT in HU. What is odd but usable, in words.

    Raises:
        DataError: naming the file (and, of DICOM, the tag), its value and the remedy.
    """
    if scan.image.is_dir():
        series = read_series(scan.image, modality="CT")
        check_hu(series.in_scale, str(scan.image))
        return [series.note] if series.note else []
    voxels, header = read_nifti(scan.image)
    require_volume(scan.image, voxels.shape)
    check_hu(voxels, str(scan.image))
    return list(header.notes)
