"""Writing a class map as a DICOM SEG that opens over the series it was predicted from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from monai_advdef.dicom.series import Series
from monai_advdef.dicom.series_slices import BROKEN, slices_of, tag
from monai_advdef.errors import DataError, reading

__all__ = ["write_seg"]

SOFTWARE = "monai_advdef"
SERIES_NUMBER = 300  # after those of the scanner
LONG_STRING = 64  # characters of a DICOM LO
SMALLEST = 8  # pixels of a slice: highdicom 0.28 packs the bits of smaller ones wrongly
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEEDED = ("SOPClassUID", "SOPInstanceUID")
OFTEN_STRIPPED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
ORGANS = {  # SNOMED CT, by the names of DICOM PS3.16
    "pancreas": codes.SCT.Pancreas,
    "kidney": codes.SCT.Kidney,
    "liver": codes.SCT.Liver,
    "spleen": codes.SCT.Spleen,
    "gallbladder": codes.SCT.Gallbladder,
    "stomach": codes.SCT.Stomach,
    "duodenum": codes.SCT.Duodenum,
    "esophagus": codes.SCT.Esophagus,
    "adrenal gland": codes.SCT.AdrenalGland,
    "aorta": codes.SCT.Aorta,
    "inferior vena cava": codes.SCT.InferiorVenaCava,
    "heart": codes.SCT.Heart,
    "lung": codes.SCT.Lung,
}


def write_seg(
    path: str | os.PathLike[str], labels: np.ndarray, *, series: Series, names: Sequence[str], algorithm: str = SOFTWARE
) -> Path:
    """Write a class map as a BINARY segmentation (DICOM PS3.3 A.51), one segment per class; the file written.

    Frames without foreground are left out unless all are (an empty prediction is a result, too). Known organs ("left kidney" and
    "kidneys" are Kidney) bear their SNOMED CT code, others that of Tissue. Positions are those of ``series.affine``: the
    slices' own, evened out. UIDs follow from series, names and labels, so the same prediction is the same instance; UIDs of the
    study, the series or the frame of reference that anonymisation took from the images are made up.

    Args:
        path: its folder is made if absent.
        labels: (X, Y, Z) whole numbers, ``k`` the class ``names[k - 1]``, 0 background.
        series: what the labels lie on; its files must still be there.
        names: of the classes 1, 2, ...; one without voxels is described but has no frames.
        algorithm: the name by which the file says what made it.

    Raises:
        DataError: labels of another shape, fractional or beyond the names, names missing, too long or twice, or headers of the
            series without what a SEG takes from them, naming file and tag.
    """
    stored = _check(np.asarray(labels), series, names)
    for name in [*names, algorithm]:
        if not name.strip() or len(name) > LONG_STRING or "\\" in name:
            raise DataError(f"names must have 1 to {LONG_STRING} characters and no backslash, got {name!r}; shorten it")
    sources, order = _sources(series)
    told = [series.uid, *names, algorithm, hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()]
    try:
        seg = Segmentation(
            source_images=sources,
            pixel_array=stored.transpose(2, 1, 0)[order],
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(number, name, algorithm) for number, name in enumerate(names, 1)],
            series_instance_uid=generate_uid(entropy_srcs=["series", *told]),
            sop_instance_uid=generate_uid(entropy_srcs=["instance", *told]),
            series_number=SERIES_NUMBER,
            instance_number=1,
            manufacturer=SOFTWARE,
            manufacturer_model_name=algorithm,
            software_versions=version(SOFTWARE),
            device_serial_number="1",
            series_description="Segmentation",
            content_label="SEGMENTATION",
            specific_character_set="ISO_IR 192",
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{series.files[0]}: no SEG can refer to this header ({error}); correct it") from error
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(file)
    return file


def _check(labels: np.ndarray, series: Series, names: Sequence[str]) -> np.ndarray:
    """The labels as unsigned integers."""
    if not names or len(set(names)) != len(names):
        raise DataError(f"names must hold one name per class, each once, got {list(names)}")
    if labels.shape != series.shape:
        where = series.files[0].parent
        raise DataError(
            f"labels must have the shape {series.shape} of the series in {where}, got {labels.shape}; invert the resampling"
        )
    if labels[..., 0].size < SMALLEST:
        raise DataError(f"labels must have at least {SMALLEST} pixels a slice, got {labels.shape}; leave such an image out")
    if labels.min() < 0 or not labels.max() <= len(names) or (labels != np.rint(labels)).any():
        span = f"{labels.min():g}..{labels.max():g}"
        raise DataError(
            f"labels must be whole numbers in 0..{len(names)} ({', '.join(names)}), got {span}; write classes, not scores"
        )
    return labels.astype(np.uint8 if len(names) < 256 else np.uint16)


def _describe(number: int, name: str, algorithm: str) -> SegmentDescription:
    bare = name.casefold().replace("_", " ").removeprefix("left ").removeprefix("right ")
    organ = ORGANS.get(bare) or ORGANS.get(bare.removesuffix("s"))
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure if organ else codes.SCT.Tissue,
        segmented_property_type=organ or codes.SCT.Tissue,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm, family=codes.DCM.ArtificialIntelligence, version=version(SOFTWARE)
        ),
    )


def _sources(series: Series) -> tuple[list[Dataset], list[int]]:
    """The headers that the SEG refers to, their geometry that of ``series.affine``, and the slice that each of their frames is."""
    headers = [_header(file) for file in dict.fromkeys(series.files)]
    for keyword in OFTEN_STRIPPED:
        made_up = generate_uid(entropy_srcs=[keyword, series.uid or headers[0].SOPInstanceUID])
        for header in headers:
            setattr(header, keyword, header.get(keyword) or made_up)
    first, lps, size = slices_of(series.files[0]), LPS @ series.affine, np.array(series.spacing)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = _decimals(size[[1, 0]])
    measures.SliceThickness = _decimals([first[0].thickness or size[2]])[0]
    measures.SpacingBetweenSlices = _decimals(size[2:])[0]
    orientation.ImageOrientationPatient = _decimals((lps[:3, :2] / size[:2]).T.ravel())
    positions = []
    for index in range(series.shape[2]):
        positions.append(Dataset())
        positions[-1].ImagePositionPatient = _decimals((lps @ [0, 0, index, 1])[:3])
    if "PerFrameFunctionalGroupsSequence" not in headers[0]:
        for header, position in zip(headers, positions):
            for part in (measures, orientation, position):
                header.update(part)
        return headers, list(range(len(headers)))
    if len(headers) > 1:
        raise DataError(f"{series.files[0]} is one of {len(headers)} multi-frame files of a series; a SEG refers to one: join them")
    order = [round(float((np.linalg.inv(lps) @ [*item.position, 1])[2])) for item in first]
    shared, groups = Dataset(), [Dataset() for _ in order]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for group, index in zip(groups, order):
        group.PlanePositionSequence = [positions[index]]
    headers[0].SharedFunctionalGroupsSequence, headers[0].PerFrameFunctionalGroupsSequence = [shared], groups
    return headers, order


def _header(file: Path) -> Dataset:
    with reading(file, BROKEN, "fetch the file again"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        header.decode()  # to be written in Unicode
    for keyword in NEEDED:
        setattr(header, keyword, header.get(keyword) or header.file_meta.get(f"MediaStorage{keyword}"))
        if not header.get(keyword):
            raise DataError(f"{file} has no {tag(keyword)}, by which a SEG refers to its images; export the series again")
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _decimals(values: Sequence[float] | np.ndarray) -> list[DSfloat]:
    """Decimal strings of at most 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]
