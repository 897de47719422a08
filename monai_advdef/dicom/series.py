"""Reading a DICOM series from a folder: one volume with its affine, or an error that says what is wrong with which file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_advdef.dicom.folder import NO_MARK, look_through, part_slices, passed_over
from monai_advdef.dicom.series_checks import check_slices, choose_series, sort_and_check_stack
from monai_advdef.dicom.series_pixels import HU_LIMITS, read_pixels
from monai_advdef.dicom.series_slices import LABEL_KINDS, Slice, object_kind
from monai_advdef.dicom.units import check_voxel_size
from monai_advdef.errors import DataError

__all__ = ["Series", "read_series"]


@dataclass(frozen=True, eq=False)
class Series:
    """A volume read from DICOM, as MONAI's readers lay it out.

    ``array`` (X, Y, Z) float32, first axis along a row of the slices, third along their normal; ``affine`` (4, 4) from voxel
    to RAS in mm; ``files`` in slice order (a multi-frame file once per frame); ``rescale`` the (slope, intercept) already applied,
    slice by slice; ``others`` the DICOM files without slices (SEG, RTSTRUCT, reports) or with images that are none (localizers,
    secondary captures), and ``ignored`` the files that are not DICOM.
    """

    array: np.ndarray
    affine: np.ndarray
    files: tuple[Path, ...]
    modality: str
    uid: str
    description: str
    rescale: tuple[tuple[float, float], ...]
    others: tuple[Path, ...] = ()
    ignored: tuple[Path, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels (X, Y, Z)."""
        return self.array.shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm, axis by axis."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def in_scale(self) -> np.ndarray:
        """The array, of CT clipped to the widest scale, beyond which nothing but declared padding (PixelPaddingValue) lies."""
        return self.array.clip(*HU_LIMITS) if self.modality == "CT" else self.array

    @property
    def note(self) -> str:
        """Which files of the folder were passed over since they are no slices, nor its labels; empty where there are none."""
        others = [path for path in self.others if object_kind(path) not in LABEL_KINDS]
        return passed_over(self.files[0].parent, sorted((*others, *self.ignored)))


def read_series(folder: str | os.PathLike[str], *, series_uid: str | None = None, modality: str | None = None) -> Series:
    """Read the one series in a folder (not in its sub-folders), or a single multi-frame file.

    Slices are grouped by SeriesInstanceUID, checked to share orientation, and sorted by ImagePositionPatient along their normal,
    as MONAI's ITKReader does; files that are no slices (reports, localizers, secondary captures, what is not DICOM) are passed over
    and named in the result. Unlike ITKReader, rescale tags are applied to every modality that has them, a single slice is as
    thick as SliceThickness says, and whatever does not make one even volume is refused.

    Args:
        folder: where the files are; any file name will do.
        series_uid: SeriesInstanceUID of the series to read where there are several.
        modality: ``"CT"``, ``"MR"``: what the series must be.

    Raises:
        DataError: nothing to read, several series, a localizer, missing, duplicated, uneven, tilted or differing slices, missing
            tags, the wrong modality, truncated files, or compression that nothing here decodes: file, tag and remedy named.
    """
    root = Path(folder)
    slices, others, ignored = look_through(root)
    if not slices:
        raise DataError(
            f"{root} holds no DICOM slices: {len(ignored)} file(s) {NO_MARK}, {len(others)} without slices "
            "(SEG, RTSTRUCT, ...); give the folder of one series, its files unpacked and with file meta information"
        )
    if series_uid is not None:
        slices = choose_series(root, slices, series_uid)
    slices, none = part_slices(slices)
    chosen = choose_series(root, slices, series_uid)
    check_slices(chosen, modality)
    stack, step = sort_and_check_stack(chosen)
    first = stack[0]
    affine = _affine(first, step)
    check_voxel_size(affine, root)
    return Series(
        array=read_pixels(stack).T,
        affine=affine,
        files=tuple(item.path for item in stack),
        modality=first.modality,
        uid=first.uid,
        description=first.description,
        rescale=tuple((1.0 if item.slope is None else item.slope, item.intercept or 0.0) for item in stack),
        others=(*others, *none),
        ignored=tuple(ignored),
    )


def _affine(first: Slice, step: float) -> np.ndarray:
    """Voxel to RAS: columns along a row, down a column and along the normal (DICOM PS3.3 C.7.6.2.1.1), x and y turned to RAS."""
    row, column = first.orientation
    normal = first.normal
    row = np.cross(column / np.linalg.norm(column), normal)  # upright even where the cosines are rounded, as GDCM does
    column = np.cross(normal, row)
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * between_columns, column * between_rows, normal * step], axis=1)
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
