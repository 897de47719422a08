"""Volumes of a data set before they are loaded: header, voxels and label values of a NIfTI file or a folder with a series."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from monai_advdef.dicom.nifti import ENDINGS, Header, read_nifti, read_nifti_header
from monai_advdef.dicom.series import read_series
from monai_advdef.dicom.series_subject import Grid, check_same_grid, turned_onto
from monai_advdef.errors import DataError

WHOLE = 1e-3  # how far from a whole number a label may be stored; rounding and scaled headers leave such values, resampling does not


def volume_stem(path: Path) -> str:
    """The name of a NIfTI file without ``.nii.gz`` or ``.nii``; empty for other files, and hidden ones."""
    kind = next((kind for kind in ENDINGS if path.name.lower().endswith(kind)), "")
    return path.name[: -len(kind)] if kind and not path.name.startswith(".") else ""


def read_header(path: Path) -> Header:
    """Shape and affine (mm) of a NIfTI file, no voxel of which is read; a folder of DICOM slices is read whole.

    Raises:
        DataError: what :func:`read_nifti_header` and :func:`read_series` refuse, naming the file.
    """
    return read_volume(path)[1] if path.is_dir() else read_nifti_header(path)


def read_volume(path: Path) -> tuple[np.ndarray, Header]:
    """The voxels as stored (scaled where the header scales), after the whole content was found intact, and the header.

    Raises:
        DataError: what :func:`read_nifti` and :func:`read_series` refuse, naming the file.
    """
    if not path.is_dir():
        return read_nifti(path)
    series = read_series(path)
    return series.in_scale, Header(series.shape, series.affine, (series.note,) if series.note else ())


def read_on_grid(path: Path, name: Path, reference: Header) -> tuple[np.ndarray, np.ndarray]:
    """The voxels (X, Y, Z) of a volume that belongs to another, in the order and direction of that one's axes, and their affine.

    Args:
        name, reference: file and header of the other.

    Raises:
        DataError: no 3-D volume, or one whose voxels lie elsewhere than those of ``reference``.
    """
    voxels, header = read_volume(path)
    require_volume(path, voxels.shape)
    grid = Grid(reference.shape[:3], reference.affine)
    voxels, affine = turned_onto(grid, voxels, header.affine)
    check_same_grid({str(name): grid, str(path): Grid(voxels.shape, affine)})
    return np.ascontiguousarray(voxels), affine


def require_volume(path: Path, shape: tuple[int, ...], volumes: int = 1) -> None:
    """Make sure that a file holds one volume, or ``volumes`` of them along a fourth axis; a :class:`DataError` otherwise."""
    if len(shape) < 3 or shape[3:] != ((volumes,) if volumes > 1 else ()):
        what = f"{volumes} volumes in one file (4-D, series last)" if volumes > 1 else "one volume (3-D)"
        raise DataError(f"{path} has the shape {shape}; it should be {what}: take it apart or fetch it again")


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
