"""Reading a DICOM SEG onto the grid of the series it was made on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from monai_advdef.dicom.seg_organs import OrganMap, check_reference, open_header
from monai_advdef.dicom.series import Series
from monai_advdef.dicom.series_checks import COSINE_TOLERANCE, REQUIRED
from monai_advdef.dicom.series_pixels import stored_values
from monai_advdef.dicom.series_slices import SEG_KINDS, Slice, frames_of, tag
from monai_advdef.errors import DataError, reading

__all__ = ["read_seg"]

PLACE_TOLERANCE = 0.3  # of a voxel: frames repeat the positions of slices, which a series takes as evenly spaced
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_seg(
    path: str | os.PathLike[str], *, series: Series, names: Mapping[str, int] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Read a BINARY or LABELMAP segmentation (DICOM PS3.3 A.51, C.8.20) as a label map on the grid of ``series``.

    Each frame goes where its own plane position and orientation say, so the frames may come in any order, leave out slices, cover
    a part of the image, or be stored along other axes of the same voxels; nothing is resampled.

    Args:
        series: what :func:`~monai_advdef.data.read_series` gave for the images.
        names: the class of each wanted segment, by its SegmentLabel whatever the case; None takes all, by their segment number.

    Returns:
        Label map (X, Y, Z) of uint8 (uint16 beyond class 255), 0 where there is no segment; the name of each class.

    Raises:
        DataError: not a SEG, fractional, made on another series, voxels that do not lie on those of the series, no such segment,
            overlapping segments, nothing segmented, or truncated, naming file and tag.
    """
    with reading(path, "cannot be read as a DICOM SEG", "export it again"):
        return _read(Path(path), series, names)


def _read(file: Path, series: Series, names: Mapping[str, int] | None) -> tuple[np.ndarray, dict[int, str]]:
    header = open_header(file, SEG_KINDS, "DICOM SEG")
    kind = header.get("SegmentationType")
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError(f"{file}: {tag('SegmentationType')} is {kind}, not BINARY or LABELMAP; threshold it first")
    referenced = {str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence") or ()}
    check_reference(file, str(header.get("FrameOfReferenceUID", "")), referenced, series)
    try:
        segments = {int(item.SegmentNumber): str(item.SegmentLabel) for item in header.SegmentSequence if item.SegmentNumber}
        frames = list(frames_of(file, header))
        numbers = [0] * len(frames) if kind == "LABELMAP" else [_segment_number(header, index) for index in range(len(frames))]
    except (AttributeError, IndexError) as error:
        raise DataError(f"{file} lacks a tag that a SEG must have ({error}); export it again") from error
    if unknown := sorted({*numbers} - {0, *segments}):
        known = ", ".join(map(str, segments))
        raise DataError(f"{file}: {tag('ReferencedSegmentNumber')} {unknown[0]} of a frame is no segment: {known}; export it again")
    organs = OrganMap(file, segments, names, keyword="SegmentLabel", shape=series.shape)
    places = [_place(item, series) for item in frames]
    _check_step(file, header, places, series)
    for item, number, place, plane in zip(frames, numbers, places, stored_values(file)):
        for here in [number] if number else [int(value) for value in np.unique(plane)]:
            if here in organs.classes:
                organs.paint(here, _voxels(item, plane == here if kind == "LABELMAP" else plane != 0, place, series))
    return organs.finish()


def _segment_number(header: Dataset, frame: int) -> int:
    own, shared = header.PerFrameFunctionalGroupsSequence[frame], header.SharedFunctionalGroupsSequence[0]
    groups = own if "SegmentIdentificationSequence" in own else shared
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _place(item: Slice, series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The voxel (3,) of a frame's first pixel, and the voxels (3, 2) that a column and a row step over: entries 0, 1 and -1."""
    for field, keyword in REQUIRED.items():
        if np.isnan(getattr(item, field)).any():
            raise DataError(f"{item.path}: {item.name} has no {tag(keyword)}, without which it has no place; export it again")
    spacing = np.array(series.spacing)
    to_voxel = np.linalg.inv(series.affine) @ LPS
    cosines = spacing[:, None] * to_voxel[:3, :3] @ item.orientation.T
    steps = np.rint(cosines).astype(int)
    remedy = "resample the segmentation onto the series first"
    if np.abs(cosines - steps).max() > COSINE_TOLERANCE or (np.abs(steps).sum(0) != 1).any():
        axes = np.round(cosines.T, 4).tolist()
        raise DataError(
            f"{item.path}: {tag('ImageOrientationPatient')} of {item.name} does not follow the axes of the series "
            f"(cosines {axes}); {remedy}"
        )
    expected = (spacing @ np.abs(steps))[::-1]
    if not np.allclose(item.spacing, expected, rtol=1e-4):
        raise DataError(
            f"{item.path}: {tag('PixelSpacing')} of {item.name} is {item.spacing.tolist()} mm, "
            f"of the series {expected.round(6).tolist()}; {remedy}"
        )
    first = (to_voxel @ [*item.position, 1.0])[:3]
    if np.abs(first - np.rint(first)).max() > PLACE_TOLERANCE:
        raise DataError(
            f"{item.path}: {tag('ImagePositionPatient')} of {item.name} is {item.position.tolist()}, between voxels of the series "
            f"(voxel {first.round(2).tolist()}); {remedy}"
        )
    return np.rint(first).astype(int), steps


def _check_step(file: Path, header: Dataset, places: Sequence[tuple[np.ndarray, np.ndarray]], series: Series) -> None:
    """Refuse frames that stand for several slices each; those of slices left out say so by SpacingBetweenSlices."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    told = (shared.get("PixelMeasuresSequence") or [Dataset()])[0].get("SpacingBetweenSlices")
    through = int(np.argmin(np.abs(places[0][1]).sum(1)))
    levels = np.unique([first[through] for first, _ in places])
    step = series.spacing[through]
    if told and abs(told) > 1.5 * step and len(levels) > 1 and np.diff(levels).min() > 1:
        raise DataError(
            f"{file}: {tag('SpacingBetweenSlices')} is {told} mm, of the series {step:g}: each frame stands for several slices; "
            "resample the segmentation onto the series first"
        )


def _voxels(item: Slice, inside: np.ndarray, place: tuple[np.ndarray, np.ndarray], series: Series) -> tuple[np.ndarray, ...]:
    """The voxels (x, y, z) of the series where ``inside`` (row, column) is true."""
    first, steps = place
    rows, columns = np.nonzero(inside)
    voxels = first[:, None] + steps @ np.stack([columns, rows])
    outside = ((voxels < 0) | (voxels >= np.array(series.shape)[:, None])).any(0)
    if outside.any():
        worst = voxels[:, int(outside.argmax())].tolist()
        raise DataError(
            f"{item.path}: {tag('ImagePositionPatient')} of {item.name} puts {int(outside.sum())} voxels of its segment outside of "
            f"the series (voxel {worst} of {list(series.shape)}); give the whole series it was made on"
        )
    return tuple(voxels)
