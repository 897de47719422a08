"""Checks between headers and volume: one series, complete, evenly spaced, upright; every error names files, tag and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_advdef.dicom.series_slices import Slice, tag
from monai_advdef.errors import DataError, nearest

STEP_TOLERANCE = 0.02  # of the distance between slices: positions are often written with two decimals
COSINE_TOLERANCE = 1e-3  # of a direction cosine, 0.06 degrees
ORTHONORMAL_TOLERANCE = 5e-3  # of lengths and of the right angle: cosines are often written with three decimals
DRIFT_TOLERANCE = 0.25  # of a pixel, sideways, over the whole stack
REQUIRED = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "spacing": "PixelSpacing"}


def choose_series(folder: Path, slices: Sequence[Slice], series_uid: str | None) -> list[Slice]:
    """The slices of ``series_uid``, or of the only series there is.

    Raises:
        DataError: several series (listed with UID, description and count), or ``series_uid`` not among them.
    """
    series: dict[str, list[Slice]] = {}
    for item in slices:
        series.setdefault(item.uid, []).append(item)
    if series_uid is not None:
        if series_uid not in series:
            raise DataError(f"{folder} holds no series {series_uid}; {nearest(series_uid, series)}")
        return series[series_uid]
    if len(series) > 1:
        listed = "; ".join(_summary(items) for items in series.values())
        raise DataError(
            f"{folder} holds {len(series)} series by {tag('SeriesInstanceUID')}: {listed}; choose one with series_uid=, or part them"
        )
    return next(iter(series.values()))


def _summary(items: Sequence[Slice]) -> str:
    first = items[0]
    note = ", localizer" if any(item.localizer for item in items) else ""
    return f"{first.uid} ({first.modality} {first.description!r}, {len(items)} slice(s){note})"


def check_slices(slices: Sequence[Slice], modality: str | None) -> None:
    """Make sure that each slice has what it needs, and that all are alike.

    Raises:
        DataError: colour, a mosaic, a localizer, another modality than asked for, a missing or impossible geometry or (CT)
            rescale tag, or slices that differ in orientation, size or pixel spacing.
    """
    first = slices[0]
    for item in slices:
        where = item.path
        if item.photometric != "MONOCHROME2":
            raise DataError(f"{where}: {tag('PhotometricInterpretation')} is {item.photometric!r}, not MONOCHROME2; move it out")
        if "MOSAIC" in item.image_type:
            raise DataError(
                f"{where}: {tag('ImageType')} says MOSAIC, a volume tiled into one image; convert the series with dcm2niix"
            )
        if item.localizer:
            raise DataError(f"{where}: {tag('ImageType')} says LOCALIZER (series of {len(slices)}): no slice; move this file out")
        if modality is not None and item.modality != modality:
            raise DataError(f"{where}: {tag('Modality')} is {item.modality!r}, expected {modality!r}; give the {modality} series")
        for field, keyword in REQUIRED.items():
            if np.isnan(getattr(item, field)).any():
                raise DataError(f"{where} has no {tag(keyword)}, without which a slice has no place; export the series again")
        _check_axes(item)
        if item.slope == 0:
            raise DataError(f"{where}: {tag('RescaleSlope')} is 0, which leaves no image; export the series again")
        if item.modality == "CT" and (item.slope is None or item.intercept is None):
            keyword = "RescaleSlope" if item.slope is None else "RescaleIntercept"
            raise DataError(f"{where} is CT without {tag(keyword)}: its values are not HU; export with the tag")
        _check_alike(first, item)


def _check_axes(item: Slice) -> None:
    if np.abs(item.orientation @ item.orientation.T - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
        raise DataError(
            f"{item.path}: {tag('ImageOrientationPatient')} is {item.orientation.ravel().tolist()}, not two perpendicular "
            "directions of length 1; export the series again"
        )
    if (item.spacing <= 0).any():
        raise DataError(f"{item.path}: {tag('PixelSpacing')} must be positive, got {item.spacing.tolist()} mm; correct the tag")


def _check_alike(first: Slice, item: Slice) -> None:
    found: tuple[str, object, object] | None = None
    if np.abs(item.orientation - first.orientation).max() > COSINE_TOLERANCE:
        found = "ImageOrientationPatient", item.orientation.ravel().tolist(), first.orientation.ravel().tolist()
    elif item.shape != first.shape:
        found = "Rows", f"{item.shape[0]} x {item.shape[1]} columns", f"{first.shape[0]} x {first.shape[1]}"
    elif not np.allclose(item.spacing, first.spacing, rtol=1e-4):
        found = "PixelSpacing", item.spacing.tolist(), first.spacing.tolist()
    if found:
        keyword, here, there = found
        raise DataError(
            f"{item.path}: {tag(keyword)} is {here}, in {first.name} it is {there}; a volume has one: move out the odd one"
        )


def sort_and_check_stack(slices: Sequence[Slice]) -> tuple[list[Slice], float]:
    """Slices sorted along their normal, and the mean distance between neighbours in mm (a single slice's is its thickness).

    Raises:
        DataError: a duplicated or missing slice, uneven distances, gantry tilt, or a single slice without thickness.
    """
    normal = slices[0].normal
    stack = sorted(slices, key=lambda item: float(item.position @ normal))
    if len(stack) == 1:
        if stack[0].thickness is None or stack[0].thickness <= 0:
            raise DataError(
                f"{stack[0].path} is a single slice without a positive {tag('SliceThickness')}; give the tag or the whole series"
            )
        return stack, stack[0].thickness
    along = np.array([item.position @ normal for item in stack])
    gaps = np.diff(along)
    _check_gaps(stack, along, gaps)
    _check_upright(stack, along)
    return stack, float(gaps.mean())


def _check_gaps(stack: Sequence[Slice], along: np.ndarray, gaps: np.ndarray) -> None:
    distinct = np.sort(gaps[gaps > 1e-3])
    step = float(distinct[(len(distinct) - 1) // 2]) if len(distinct) else 0.0  # lower median: a gap, not a mean of two
    place = tag("ImagePositionPatient")
    for before, after, at, gap in zip(stack, stack[1:], along, gaps):
        pair = f"{before.path.parent}: {before.name} and {after.name}"
        if gap <= max(1e-3, STEP_TOLERANCE * step):
            raise DataError(
                f"{pair} lie at the same {place}, {at:.3f} mm along the normal: a duplicated slice, "
                "or several echoes or times in one series; keep one of each"
            )
        lacking = round(gap / step) - 1
        if lacking > 0 and abs(gap - (lacking + 1) * step) <= (lacking + 1) * STEP_TOLERANCE * step:
            raise DataError(
                f"{pair} lie {gap:.3f} mm apart by {place}, others {step:.3f}: {lacking} slice(s) missing; add the missing"
            )
        if abs(gap - step) > STEP_TOLERANCE * step:
            raise DataError(
                f"{pair} lie {gap:.3f} mm apart by {place}, others {step:.3f}: the spacing is not uniform; resample the series first"
            )


def _check_upright(stack: Sequence[Slice], along: np.ndarray) -> None:
    offset = np.stack([item.position - stack[0].position for item in stack])
    drift = np.linalg.norm(offset - np.outer(along - along[0], stack[0].normal), axis=1)
    worst = int(drift.argmax())
    if drift[worst] > DRIFT_TOLERANCE * stack[0].spacing.min():
        angle = np.degrees(np.arctan2(drift[worst], along[worst] - along[0]))
        noted = f", {tag('GantryDetectorTilt')} {stack[0].tilt:g}" if stack[0].tilt else ""
        raise DataError(
            f"{stack[worst].path}: {tag('ImagePositionPatient')} lies {drift[worst]:.3f} mm beside the normal of {stack[0].name} "
            f"({angle:.1f} degrees{noted}): gantry tilt or shifted slices; undo it by resampling (dcm2niix does) and read the NIfTI"
        )
