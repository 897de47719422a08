"""What DICOM SEG and RTSTRUCT share: they must belong to the series, and their organs become the classes of a label map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from monai_advdef.dicom.folder import NO_MARK
from monai_advdef.dicom.series import Series
from monai_advdef.dicom.series_slices import BROKEN, is_dicom, tag
from monai_advdef.errors import DataError, nearest, reading


def open_header(path: Path, kinds: Collection[str], what: str) -> Dataset:
    """The data set of a DICOM file without its pixels.

    Raises:
        DataError: no such file, not DICOM, cut short, or of another SOP class than ``kinds``.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give one {what} file")
    with reading(path, BROKEN, "fetch the file again"):
        if not is_dicom(path):
            raise DataError(f"{path} is {NO_MARK}; give a {what} file")
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kind = header.get("SOPClassUID", pydicom.uid.UID(""))
    if kind not in kinds:
        raise DataError(f"{path}: {tag('SOPClassUID')} is {kind.name!r}; give a {what} file")
    return header


def check_reference(path: Path, frame_uid: str, referenced: Collection[str], series: Series) -> None:
    """Make sure that an object refers to ``series``, or at least to its frame of reference.

    Either will do: other series of one examination share the frame, and some writers of RTSTRUCT make up a frame of their own.

    Args:
        frame_uid: the FrameOfReferenceUID of the object, empty if it has none.
        referenced: the SeriesInstanceUIDs that the object refers to.

    Raises:
        DataError: it was made on another series.
    """
    source = series.files[0]
    with reading(source, BROKEN, "fetch the file again"):
        header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"])
        own = str(header.get("FrameOfReferenceUID", ""))
    if series.uid not in referenced and (not own or frame_uid != own):
        raise DataError(
            f"{path} was made on another series than {source.parent}: {tag('FrameOfReferenceUID')} is {frame_uid or 'absent'}, "
            f"there {own or 'absent'}; {tag('SeriesInstanceUID')} it refers to is {', '.join(sorted(referenced)) or 'absent'}, "
            f"there {series.uid}; give the two that belong together"
        )


class OrganMap:
    """A label map under construction: which numbered organs of a file are wanted, as which class, and no voxel of two classes.

    ``classes`` gives the class of each wanted number, ``names`` the name of each class, ``labels`` (X, Y, Z) is uint8 or uint16.

    Args:
        found: the organs of the file by number.
        names: the class of each wanted organ, names matched whatever their case; several may share a class. None: every organ,
            its number being the class.
        keyword: the tag where the file says its names.

    Raises:
        DataError: a class of ``names`` of which the file has no organ, or a class outside of 1..65535.
    """

    def __init__(
        self, path: Path, found: Mapping[int, str], names: Mapping[str, int] | None, *, keyword: str, shape: tuple[int, ...]
    ) -> None:
        self.path = path
        if names is None:
            self.classes = {number: number for number in found}
        else:
            wanted = {name.casefold(): value for name, value in names.items()}
            self.classes = {n: wanted[name.casefold()] for n, name in found.items() if name.casefold() in wanted}
            for name, value in names.items():
                if value not in self.classes.values():
                    raise DataError(
                        f"{path} has no organ {name!r} by {tag(keyword)}: {nearest(name, found.values())}; "
                        "correct the name, or take the class off the list"
                    )
        if odd := [value for value in self.classes.values() if not 1 <= value <= 65535]:
            raise DataError(f"{path}: a class must lie in 1..65535, got {odd[0]}; 0 is the background")
        self.names: dict[int, str] = {}
        for number, value in self.classes.items():
            before = f"{self.names[value]} + " if value in self.names else ""
            self.names[value] = before + found[number]
        self.labels = np.zeros(shape, np.uint8 if max(self.names, default=0) < 256 else np.uint16)

    def paint(self, number: int, voxels: tuple[np.ndarray, ...]) -> None:
        """Give the voxels (x, y, z) the class of organ ``number``; DataError if they have another."""
        value, before = self.classes[number], self.labels[voxels]
        clash = before[(before != 0) & (before != value)]
        if clash.size:
            raise DataError(
                f"{self.path}: {self.names[value]!r} and {self.names[int(clash[0])]!r} overlap ({clash.size} voxels of one slice); "
                "a label map holds one class per voxel: choose organs that do not overlap with names="
            )
        self.labels[voxels] = value

    def finish(self) -> tuple[np.ndarray, dict[int, str]]:
        """The label map and the name of each of its classes; DataError if nothing was painted."""
        if not self.labels.any():
            chosen = ", ".join(self.names.values()) or "no organ at all"
            raise DataError(f"{self.path} is empty: no voxel of {chosen}; give the file of a finished segmentation")
        return self.labels, self.names
