"""Volumes of a data set before they are loaded: header, voxels and label values of a NIfTI file or a folder with a series."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from monai_advdef.dicom.nifti import Header, read_nifti, read_nifti_header
from monai_advdef.dicom.series import read_series

VOLUME_TYPES = (".nii.gz", ".nii")
WHOLE = 1e-3  # how far from a whole number a label may be stored; rounding and scaled headers leave such values, resampling does not


def volume_stem(path: Path) -> str:
    """The name of a NIfTI file without ``.nii.gz`` or ``.nii``; empty for other files, and hidden ones."""
    kind = next((kind for kind in VOLUME_TYPES if path.name.lower().endswith(kind)), "")
    return path.name[: -len(kind)] if kind and not path.name.startswith(".") else ""


def read_header(path: Path) -> Header:
    """Shape and affine (mm) of a NIfTI file, no voxel of which is read; a folder of DICOM slices is read whole.

    Raises:
        DataError: what :func:`read_nifti_header` and :func:`read_series` refuse, naming the file.
    """
    if path.is_dir():
        series = read_series(path)
        return Header(series.shape, series.affine, (series.note,) if series.note else ())
    return read_nifti_header(path)


def read_voxels(path: Path) -> np.ndarray:
    """The voxels as stored (scaled where the header scales), after the whole content was found intact.

    Raises:
        DataError: what :func:`read_nifti` and :func:`read_series` refuse, naming the file.
    """
    return read_series(path).array if path.is_dir() else read_nifti(path)[0]


def whole_values(values: np.ndarray) -> np.ndarray:
    """Label values, those within .001 of a whole number rounded to it: floating-point files and scaled headers miss it by that."""
    if values.dtype.kind in "iub":
        return values
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= WHOLE, nearest, values)


def odd_values(values: np.ndarray, known: Collection[int]) -> str:
    """The label values that are none of ``known``, in full, the first four of them; empty where there are none."""
    odd = [f"{value:.9g}" for value in np.unique(values).tolist() if value not in known]
    return ", ".join(odd[:4]) + (f" and {len(odd) - 4} more" if len(odd) > 4 else "")
