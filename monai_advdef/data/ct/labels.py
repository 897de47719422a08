"""Reading the label of a CT scan as a map of classes: NIfTI, DICOM SEG or RTSTRUCT, or a picture of a slice."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monai_advdef.data.ct.layouts import Scan
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.pairs import MASK_TYPES
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.volume_files import odd_values, read_header, read_on_grid, whole_values
from monai_advdef.dicom.label_files import label_reader
from monai_advdef.dicom.seg_read import read_seg
from monai_advdef.dicom.series import read_series
from monai_advdef.errors import DataError


class ClassMap(NamedTuple):
    """Class numbers ``array`` (X, Y, Z) or (X, Y) uint8 on the image's grid, its ``affine`` (4, 4), and the ``classes`` found."""

    array: np.ndarray
    affine: np.ndarray
    classes: tuple[int, ...]


def read_class_map(label: Path, image: Path, organs: Organs, *, known: Collection[int] = (), told_by: str = "") -> ClassMap:
    """The class of every voxel of an image; 0 where a label value, or an organ of a DICOM file, is none of the ``organs``.

    Segments and structures of DICOM files are known by their names (see :meth:`Organs.class_named`), label values by their numbers.

    Args:
        image: the file or series folder that the label belongs to.
        known: the label values there may be besides 0 and those of the organs.
        told_by: what says so, for the error; the organ map where empty.

    Raises:
        DataError: a label on another grid than its image, a value that is not known, or what :func:`read_seg` and
            :func:`read_rtstruct` refuse; naming file, value and remedy.
    """
    if label.suffix.lower() == ".dcm":
        return _from_dicom(label, image, organs)
    if label.suffix.lower() in MASK_TYPES:
        values, affine = read_mask(label).T, np.eye(4)
    else:
        values, affine = read_on_grid(label, image, read_header(image))
    values = whole_values(values)
    found = np.unique(values)
    allowed = {*known, *organs.known}
    if odd := odd_values(values, allowed):
        raise DataError(
            f"{label} holds the label value {odd}, which {told_by or f'the organ map {organs.source}'} does not know "
            f"(known: {', '.join(map(str, sorted(allowed)[:24]))}); correct the file (resample labels by nearest neighbour), "
            "write its meaning into labels.json (of images/ and labels/), say it by --values, or choose another organ map"
        )
    array = np.zeros(values.shape, np.uint8)
    for value in found:
        array[values == value] = organs.class_of.get(int(value), 0)
    return ClassMap(array, affine, _classes(array))


def _from_dicom(label: Path, image: Path, organs: Organs) -> ClassMap:
    series = read_series(image, modality="CT")
    segments, names = (label_reader(label) or read_seg)(label, series=series)
    array = np.zeros(segments.shape, np.uint8)
    for number, name in names.items():
        if organs.class_named(name):
            array[segments == number] = organs.class_named(name)
    if not array.any():
        raise DataError(
            f"{label} has the segments {', '.join(names.values())}, none of which is an organ of the map {organs.source} "
            f"({', '.join(organs.names)}); choose another organ map"
        )
    return ClassMap(array, series.affine, _classes(array))


def _classes(array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(number) for number in np.unique(array) if number)


def require_label(scan: Scan) -> Path:
    """The label file of a volume; a :class:`DataError` that says what it should be called where there is none."""
    if scan.label is None:
        series = scan.image.is_dir()
        wanted = f"{scan.name}_label.nii.gz (or {scan.name}_seg.dcm) beside it" if series else f"{scan.name}.nii.gz into labels/"
        raise DataError(f"{scan.image} has no label file; put {wanted}, or move the volume away")
    return scan.label
