"""Reading the contours of an RTSTRUCT as a label map on the grid of the series they were drawn on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from monai_advdef.dicom.seg_organs import OrganMap, check_reference, open_header
from monai_advdef.dicom.series import Series
from monai_advdef.dicom.series_slices import tag
from monai_advdef.errors import DataError, reading

__all__ = ["fill_polygons", "read_rtstruct"]

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
LEVEL_TOLERANCE = 0.25  # of the distance between slices
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_rtstruct(
    path: str | os.PathLike[str], *, series: Series, names: Mapping[str, int] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Read the closed contours of an RTSTRUCT (DICOM PS3.3 A.19, C.8.8.6) as a label map on the grid of ``series``.

    A voxel belongs to an ROI if its centre lies inside of an odd number of the ROI's contours on that slice, so that a contour
    within another is a hole, as is the inside of a keyhole; see :func:`fill_polygons` for centres on the line itself.

    Args:
        series: what :func:`~monai_advdef.data.read_series` gave for the images; oblique and coronal series too.
        names: the class of each wanted ROI, by its ROIName whatever the case; None takes all that hold closed contours alone,
            numbered 1, 2, ... in the order of the file.

    Returns:
        Label map (X, Y, Z) of uint8 (uint16 beyond class 255), 0 where there is no ROI; the name of each class.

    Raises:
        DataError: not an RTSTRUCT, drawn on another series, no such ROI, an ROI without closed contours, contours outside of,
            between or across the slices, overlapping ROIs, or nothing inside of any contour, naming file and tag.
    """
    with reading(path, "cannot be read as an RTSTRUCT", "export it again"):
        return _read(Path(path), series, names)


def _read(file: Path, series: Series, names: Mapping[str, int] | None) -> tuple[np.ndarray, dict[int, str]]:
    header = open_header(file, (RTStructureSetStorage,), "RTSTRUCT")
    rois, frame_uids, contours = _parse(file, header)
    ordered = dict(enumerate(rois, 1))
    if names is None:
        ordered = {n: roi for n, roi in ordered.items() if contours[roi] and all(_closed(c) for c in contours[roi])}
    found = {number: rois[roi] for number, roi in ordered.items()}
    organs = OrganMap(file, found, names, keyword="ROIName", shape=series.shape)
    for number in organs.classes:
        roi = ordered[number]
        where = f"{file}: ROI {rois[roi]!r}"
        check_reference(file, frame_uids[roi], _referenced_series(header), series)
        if not contours[roi]:
            raise DataError(f"{where} has no {tag('ContourSequence')}; take it off the list")
        planes: dict[int, list[np.ndarray]] = {}
        for contour in contours[roi]:
            level, polygon = _in_slice(where, contour, series)
            planes.setdefault(level, []).append(polygon)
        for level, polygons in planes.items():
            x, y = np.nonzero(fill_polygons(polygons, series.shape[:2]))
            organs.paint(number, (x, y, np.full_like(x, level)))
    return organs.finish()


def fill_polygons(polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels ``(x, y)`` whose centres lie inside of an odd number of polygons: bool, exact but for rounding.

    Rays run from each centre along -x. Half-open: a centre on the line counts to the side of larger x, or larger y where the
    line runs along x, so polygons that share an edge neither overlap nor leave a gap.

    Args:
        polygons: vertices (N, 2) in pixels, (0, 0) the centre of the first; the last is joined to the first.
        shape: of the result.
    """
    crossings = np.zeros((shape[0] + 1, shape[1]), int)
    for polygon in polygons:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        upwards = (start[:, 1] <= end[:, 1])[:, None]
        low, high = np.where(upwards, start, end), np.where(upwards, end, start)
        first = np.clip(np.ceil(low[:, 1]), 0, shape[1]).astype(int)
        count = np.clip(np.ceil(high[:, 1]), 0, shape[1]).astype(int) - first
        edge = np.repeat(np.arange(len(polygon)), count)
        y = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        share = (y - low[edge, 1]) / (high[edge, 1] - low[edge, 1])  # in 0..1, however flat the edge
        x = low[edge, 0] + share * (high[edge, 0] - low[edge, 0])
        np.add.at(crossings, (np.clip(np.ceil(x), 0, shape[0]).astype(int), y), 1)
    return np.cumsum(crossings, axis=0)[:-1] % 2 == 1


def _parse(file: Path, header: Dataset) -> tuple[dict[int, str], dict[int, str], dict[int, list[Dataset]]]:
    """By ROI number: the name, the frame of reference and the contours."""
    try:
        rois = {int(roi.ROINumber): str(roi.ROIName) for roi in header.StructureSetROISequence}
        frames = {int(roi.ROINumber): str(roi.ReferencedFrameOfReferenceUID) for roi in header.StructureSetROISequence}
        contours: dict[int, list[Dataset]] = {number: [] for number in rois}
        for item in header.ROIContourSequence:
            contours[int(item.ReferencedROINumber)] += item.get("ContourSequence") or []
    except (AttributeError, KeyError) as error:
        raise DataError(f"{file} lacks a tag or an ROI that an RTSTRUCT must have ({error}); export it again") from error
    return rois, frames, contours


def _referenced_series(header: Dataset) -> set[str]:
    return {
        str(series.get("SeriesInstanceUID", ""))
        for frame in header.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    }


def _closed(contour: Dataset) -> bool:
    return contour.get("ContourGeometricType") in CLOSED


def _in_slice(where: str, contour: Dataset, series: Series) -> tuple[int, np.ndarray]:
    """The slice that a contour lies in, and its vertices (N, 2) in voxels."""
    if not _closed(contour):
        kind = contour.get("ContourGeometricType")
        raise DataError(f"{where}: {tag('ContourGeometricType')} is {kind}, not {' or '.join(CLOSED)}; take the ROI off the list")
    try:
        points = np.array(contour.get("ContourData") or [], float).reshape(-1, 3)
    except ValueError as error:
        raise DataError(f"{where}: {tag('ContourData')} is not a list of points x, y, z ({error}); export it again") from error
    told = contour.get("NumberOfContourPoints")
    if not len(points) or not np.isfinite(points).all() or (told is not None and int(told) != len(points)):
        raise DataError(f"{where}: {tag('ContourData')} holds {len(points)} points, told are {told}; export it again")
    voxels = (np.linalg.inv(series.affine) @ LPS @ np.c_[points, np.ones(len(points))].T)[:3].T
    level = float(np.median(voxels[:, 2]))
    place = f"{where}: {tag('ContourData')} of a contour near {points[0].round(2).tolist()} mm"
    if np.abs(voxels[:, 2] - level).max() > LEVEL_TOLERANCE:
        raise DataError(f"{place} runs across the slices of the series; give the series it was drawn on")
    nearest_level = round(level)
    low, high = voxels[:, :2].min(0), voxels[:, :2].max(0)
    if not 0 <= nearest_level < series.shape[2] or (low < -0.5).any() or (high > np.array(series.shape[:2]) - 0.5).any():
        span = [*low.round(1).tolist(), round(level, 1)], [*high.round(1).tolist(), round(level, 1)]
        raise DataError(
            f"{place} lies outside of the series (voxels {span[0]} to {span[1]} of {list(series.shape)}); "
            "give the whole series it was drawn on"
        )
    if abs(level - nearest_level) > LEVEL_TOLERANCE:
        raise DataError(f"{place} lies between slices (slice {level:.2f}); give the series it was drawn on")
    return nearest_level, voxels[:, :2]
