"""Whether the volumes of a subject can be used: their headers, which is cheap, and every voxel, which is not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from monai_advdef.data.mri.layouts import Subject
from monai_advdef.dicom.series import read_series
from monai_advdef.dicom.series_subject import check_same_grid
from monai_advdef.errors import DataError

COVERED = 0.9  # of the head, below which a series is called partial; the least of a whole BraTS series seen is 0.97


class Grid(NamedTuple):
    """What :func:`check_same_grid` compares."""

    shape: tuple[int, ...]
    affine: np.ndarray


def check_headers(subject: Subject) -> None:
    """Open the header of every file: readable, one volume (or all series in one file), an affine that can be inverted, one grid.

    Raises:
        DataError: naming subject and file.
    """
    images = {role: _of(subject, read_header, path) for role, path in subject.files.items()}
    for role, image in images.items():
        volumes = (len(subject.order),) if subject.order and role != "seg" else ()
        if len(image.shape) < 3 or image.shape[3:] != volumes or 0 in image.shape:
            what = f"{volumes[0]} volumes in one file" if volumes else "one volume"
            raise DataError(
                f"subject {subject.name}: {subject.files[role]} has the shape {image.shape}; it should be {what} (3-D"
                f"{', series last' if volumes else ''}): take it apart or fetch it again"
            )
    grids = {str(subject.files[role]): Grid(image.shape[:3], image.affine) for role, image in images.items()}
    try:
        check_same_grid(grids)
    except DataError as error:
        raise DataError(f"subject {subject.name}: {error}") from error


def check_voxels(subject: Subject, series: tuple[str, ...]) -> list[str]:
    """Read every voxel of a subject, one series in memory at a time; what is odd but usable, in words.

    A series is odd where it covers less than 90 % of the head: of the voxels that at least two of the other series fill.

    Raises:
        DataError: a file that ends early or is corrupt, NaN or infinite voxels, a series of zeros or of one value, or a label that
            is none; naming subject and file.
    """
    whole = _of(subject, read_voxels, subject.files[series[0]]) if subject.order else None
    filled = {}
    for number, name in enumerate(series):
        path = subject.files[name]
        voxels = whole[..., subject.order[number]] if whole is not None else _of(subject, read_voxels, path)
        bad = 0 if voxels.dtype.kind in "iu" else int((~np.isfinite(voxels)).sum())
        if bad:
            raise DataError(f"subject {subject.name}: {path} ({name}) holds {bad} NaN or infinite voxels; repair it or leave it out")
        filled[name] = voxels != 0
        inside = voxels[filled[name]]
        if inside.size == 0 or inside.min() == inside.max():
            what = "nothing but zeros" if inside.size == 0 else f"the one value {inside[0]:g} in the head"
            raise DataError(f"subject {subject.name}: {path} ({name}) holds {what}; fetch the series again or leave the subject out")
    if "seg" in subject.files:
        _check_labels(subject)
    return _partial(subject, filled)


def _check_labels(subject: Subject) -> None:
    labels = _of(subject, read_voxels, subject.files["seg"])
    odd = [f"{value:g}" for value in np.unique(labels) if value not in subject.label_values]
    if odd:
        raise DataError(
            f"subject {subject.name}: {subject.files['seg']} holds the label {', '.join(odd[:4])}; known are "
            f"{', '.join(map(str, subject.label_values))}: correct the label file (resample labels by nearest neighbour)"
        )


def _partial(subject: Subject, filled: dict[str, np.ndarray]) -> list[str]:
    counts = np.sum([mask.astype(np.uint8) for mask in filled.values()], axis=0, dtype=np.uint8)
    said = []
    for name, mask in filled.items():
        head = counts - mask >= min(2, len(filled) - 1)
        share = float(mask[head].mean()) if head.any() else 1.0
        if share < COVERED:
            said.append(
                f"subject {subject.name}: {subject.files[name]} ({name}) covers {100 * share:.0f} % of the head that the other "
                "series show; look at it, and leave the subject out if the tumour is cut"
            )
    return said


def read_header(path: Path) -> SpatialImage:
    """The NIfTI file with its header read and no voxel; a folder of DICOM slices is read whole.

    Raises:
        DataError: not a readable NIfTI file, voxels that are no real numbers, or an affine that cannot be inverted.
    """
    if path.is_dir():
        series = read_series(path)
        return nib.Nifti1Image(series.array, series.affine)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); fetch it again")
    try:
        image: SpatialImage = nib.load(path, mmap=False)  # type: ignore[assignment]
        affine, kind = image.affine, image.get_data_dtype().kind
    except (OSError, EOFError, ValueError, ImageFileError, HeaderDataError) as error:
        raise DataError(f"{path} cannot be read as a NIfTI file ({error}); fetch it again") from error
    if kind not in "iuf":
        raise DataError(f"{path} has voxels of type {image.get_data_dtype()}, no real numbers; save it as int16 or float32")
    if affine is None or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        rows = np.asarray(affine)[:3, :3].tolist() if affine is not None else None
        raise DataError(f"{path} has an affine that cannot be inverted ({rows}); write the sform and qform again from the original")
    return image


def read_voxels(path: Path) -> np.ndarray:
    """The voxels of a NIfTI file as stored (scaled where the header scales), after its whole content was found intact.

    Raises:
        DataError: a file that ends early, or a gzip check sum that does not fit.
    """
    image: SpatialImage = read_header(path)
    if path.is_dir():
        return np.asanyarray(image.dataobj)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return np.asanyarray(type(image).from_bytes(content).dataobj)  # type: ignore[attr-defined]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is cut short or corrupt ({error}); fetch it again") from error


def _of(subject: Subject, read, path: Path):
    """What ``read`` makes of the file; its error with the subject's name before it."""
    try:
        return read(path)
    except DataError as error:
        raise DataError(f"subject {subject.name}: {error}") from error
