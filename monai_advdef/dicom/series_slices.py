"""What a DICOM header says about its slices: one :class:`Slice` per frame, none for objects that hold no image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
)

from monai_advdef.errors import DataError, reading

PREAMBLE = 128
BROKEN = "ends or breaks within its header"
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, None)
SEG_KINDS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second is Label Map Segmentation Storage
LABEL_KINDS = (*SEG_KINDS, RTStructureSetStorage)
DEFLATE_LIMIT = 1032  # no byte of a deflate stream stands for more
ALIKE = 1e-3  # of a direction cosine, 0.06 degrees


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice: a file, or one frame of a multi-frame file, with its place in the patient (LPS, mm).

    ``orientation`` holds the direction cosines of a row and of a column (2, 3), ``spacing`` the mm between rows and between
    columns, ``shape`` (rows, columns), ``kind`` the name of the SOP class, ``padding`` the stored value outside of the field of
    view; arrays that the header lacks are NaN, numbers None.
    """

    path: Path
    frame: int
    frames: int
    kind: str
    uid: str
    description: str
    modality: str
    image_type: tuple[str, ...]
    photometric: str
    shape: tuple[int, int]
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    thickness: float | None
    tilt: float | None
    slope: float | None
    intercept: float | None
    padding: float | None

    @property
    def name(self) -> str:
        """What an error calls it: the file, and the frame where there are several."""
        return f"{self.path.name} frame {self.frame + 1}" if self.frames > 1 else self.path.name

    @property
    def normal(self) -> np.ndarray:
        """Unit normal (3,): row direction x column direction."""
        normal = np.cross(*self.orientation)
        return normal / np.linalg.norm(normal)

    @property
    def localizer(self) -> bool:
        """Whether it is a scout image, which belongs to no volume."""
        return "LOCALIZER" in self.image_type

    def alike(self, other: Slice) -> bool:
        """Whether two images have the same size and, but for rounding, the same orientation, so that they may be of one stack."""
        turned = np.abs(self.orientation - other.orientation).max()
        return self.shape == other.shape and not turned > ALIKE


def tag(keyword: str) -> str:
    """``"ImagePositionPatient (0020,0032)"``."""
    number = tag_for_keyword(keyword) or 0
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})"


def is_dicom(path: Path) -> bool:
    """Whether ``path`` is a DICOM Part 10 file: ``DICM`` after 128 bytes of preamble."""
    with path.open("rb") as file:
        file.seek(PREAMBLE)
        return file.read(4) == b"DICM"


def object_kind(path: Path) -> str:
    """The SOPClassUID of a DICOM file; empty for a file that is none.

    Raises:
        DataError: a DICOM file that cannot be read.
    """
    with reading(path, BROKEN, "fetch the file again"):
        if not path.is_file() or not is_dicom(path):
            return ""
        return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID", ""))


def slices_of(path: Path) -> list[Slice]:
    """The slices in a DICOM file, frame by frame; none for objects that hold no image (SEG, RTSTRUCT, reports).

    Raises:
        DataError: a file cut short in its header, or a tag that is no number.
    """
    with reading(path, BROKEN, "fetch the file again"):
        return _read(path)


def _read(path: Path) -> list[Slice]:
    header = pydicom.dcmread(path, defer_size=1024)
    kind = sop_class(header).name
    if not kind or not len(header):
        raise DataError(f"{path} has no {tag('SOPClassUID')}: cut short within its header; fetch the file again")
    if "Image Storage" not in kind:
        return []
    if "PixelData" not in header or "Rows" not in header:
        raise DataError(f"{path} is {kind} without {tag('PixelData')}: cut short within its header; fetch the file again")
    return list(frames_of(path, header))


def sop_class(header: Dataset) -> UID:
    """What a data set is, by its file meta information, else by itself; empty where neither says."""
    return UID(str(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", "")))


def check_frames(path: Path, header: Dataset) -> int:
    """How many frames a file has, once it is plain that it can hold them.

    Raises:
        DataError: more frames than the file has room for, or none.
    """
    count, size = int(header.get("NumberOfFrames") or 1), path.stat().st_size
    syntax = header.file_meta.get("TransferSyntaxUID")
    bits = count * int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated") or 8)
    if syntax not in UNCOMPRESSED:
        bits = count * 64  # no frame without the header of its fragment
    elif syntax == DeflatedExplicitVRLittleEndian:
        bits //= DEFLATE_LIMIT
    if count < 1 or bits > 8 * size:
        shape = f"{count} frame(s) of {header.Rows} x {header.Columns}"
        raise DataError(f"{path}: by its header {tag('PixelData')} is {shape}, more than its {size} bytes hold; fetch it again")
    return count


def frames_of(path: Path, header: Dataset) -> Iterator[Slice]:
    """One slice per frame; each value from the frame's own functional groups, else the shared ones, else the top of the header."""
    count = check_frames(path, header)
    shared = _groups(header, "SharedFunctionalGroupsSequence")
    per_frame = _groups(header, "PerFrameFunctionalGroupsSequence")
    kind = sop_class(header).name
    for frame in range(count):
        groups = [*per_frame[frame : frame + 1], *shared[:1]]

        def numbers(group: str, keyword: str, size: int, groups: list[Dataset] = groups) -> np.ndarray | None:
            inside = [g[group].value[0] for g in groups if group in g and len(g[group].value)]
            return _numbers(path, next((item for item in inside if keyword in item), header), keyword, size)

        yield Slice(
            path=path,
            frame=frame,
            frames=count,
            kind=kind,
            uid=str(header.get("SeriesInstanceUID", "")),
            description=str(header.get("SeriesDescription", "")),
            modality=str(header.get("Modality", "")),
            image_type=tuple(header.get("ImageType") or ()),
            photometric=str(header.get("PhotometricInterpretation", "")),
            shape=(int(header.Rows), int(header.Columns)),
            position=_or_nan(numbers("PlanePositionSequence", "ImagePositionPatient", 3), 3),
            orientation=_or_nan(numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6), 6).reshape(2, 3),
            spacing=_or_nan(numbers("PixelMeasuresSequence", "PixelSpacing", 2), 2),
            thickness=_first(numbers("PixelMeasuresSequence", "SliceThickness", 1)),
            tilt=_first(numbers("CTAcquisitionDetailsSequence", "GantryDetectorTilt", 1)),
            slope=_first(numbers("PixelValueTransformationSequence", "RescaleSlope", 1)),
            intercept=_first(numbers("PixelValueTransformationSequence", "RescaleIntercept", 1)),
            padding=_first(_numbers(path, header, "PixelPaddingValue", 1)),
        )


def _groups(header: Dataset, keyword: str) -> list[Dataset]:
    return list(header[keyword].value) if keyword in header else []


def _or_nan(values: np.ndarray | None, size: int) -> np.ndarray:
    return np.full(size, np.nan) if values is None else values


def _first(values: np.ndarray | None) -> float | None:
    return None if values is None else float(values[0])


def _numbers(path: Path, item: Dataset, keyword: str, size: int) -> np.ndarray | None:
    """The ``size`` numbers of a tag, None where it is absent or empty.

    Decimal strings longer than the 16 characters that DICOM allows are read in full.
    """
    try:
        value = item.get(keyword)
        if value is None or value == "":
            return None
        numbers = np.array(value, dtype=float).reshape(-1)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {tag(keyword)} is no number ({error}); correct the tag") from error
    if numbers.size != size or not np.isfinite(numbers).all():
        raise DataError(f"{path}: {tag(keyword)} must hold {size} finite number(s), got {numbers.tolist()}; correct the tag")
    return numbers
