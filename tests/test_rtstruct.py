"""RTSTRUCT contours as label maps: circles against their closed form, polygons against matplotlib, and what does not fit refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import SHARED
from dicom_series import AFFINE, LPS, volume
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy.spatial.transform import Rotation

from monai_advdef.data import DataError, Series, read_series, write_series
from monai_advdef.dicom.rtstruct import fill_polygons, read_rtstruct

EDGE = SHARED / "edge"
SHAPE = (40, 30, 4)


def circle(centre: tuple[float, float], radius: float, points: int = 720) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def write_rtstruct(path: Path, series: Series, rois: dict[str, Sequence[tuple[float, np.ndarray]]]) -> Path:
    """Contours given as (slice, vertices (N, 2)), all in voxels of the series."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID, "RTSTRUCT"
    frame = pydicom.dcmread(series.files[0]).FrameOfReferenceUID
    names, contours = [], []
    for number, (name, drawn) in enumerate(rois.items(), 7):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, []
        for level, polygon in drawn:
            contour = Dataset()
            voxels = np.c_[polygon, np.full(len(polygon), level), np.ones(len(polygon))]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
            contour.ContourData = [f"{v:.6f}" for v in (LPS @ series.affine @ voxels.T)[:3].T.ravel()]
            item.ContourSequence.append(contour)
        names.append(roi)
        contours.append(item)
    header.StructureSetROISequence, header.ROIContourSequence = names, contours
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def series(tmp_path: Path) -> Series:
    write_series(tmp_path / "ct", volume(SHAPE), AFFINE, modality="CT")
    return read_series(tmp_path / "ct")


def discs(shape: tuple[int, ...], centre: tuple[float, float]) -> np.ndarray:
    """The distance of each pixel from ``centre``."""
    return np.hypot(*(np.indices(shape) - np.reshape(centre, (2, 1, 1))))


@settings(max_examples=6, deadline=None)
@given(
    turn=st.integers(0, 10**6),
    spacing=st.tuples(*[st.floats(0.4, 5)] * 3),
    centre=st.tuples(st.floats(14, 25), st.floats(12, 17)),
    radius=st.floats(2, 11.5),
    level=st.integers(0, 3),
)
def test_a_circle_holds_the_voxels_within_its_radius_on_any_oblique_grid(turn, spacing, centre, radius, level):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = Rotation.random(random_state=turn).as_matrix() * spacing, (5, -80, 31)
    with tempfile.TemporaryDirectory() as scratch:
        write_series(Path(scratch) / "ct", np.zeros(SHAPE), affine, modality="CT")
        series = read_series(Path(scratch) / "ct")
        path = write_rtstruct(Path(scratch) / "rt.dcm", series, {"disc": [(level, circle(centre, radius))]})
        labels, names = read_rtstruct(path, series=series)
    distance = discs(SHAPE[:2], centre)
    sure = (distance < radius * np.cos(np.pi / 720) - 1e-4) | (distance > radius + 1e-4)  # between chord and arc it may be either
    assume(sure.mean() > 0.99)
    np.testing.assert_array_equal(labels[:, :, level][sure], (distance <= radius)[sure])
    assert not np.delete(labels, level, axis=2).any() and names == {1: "disc"} and labels.dtype == np.uint8


VERTICES = st.lists(st.tuples(st.floats(-3, 23), st.floats(-3, 17)), min_size=3, max_size=12).map(np.array)


@settings(max_examples=60, deadline=None)
@given(polygon=VERTICES)
@example(polygon=np.array([(0, 0), (0, 0), (1, 2.2250738585e-313)]))
def test_any_polygon_is_filled_as_matplotlib_tells_inside_from_outside(polygon):
    pixels = np.indices((20, 14)).reshape(2, -1).T
    ends = np.roll(polygon, -1, axis=0)
    along = ends - polygon
    length = np.maximum((along**2).sum(1), 1e-12)
    at = np.clip(((pixels[:, None] - polygon) * along).sum(2) / length, 0, 1)[..., None]
    clear = np.linalg.norm(pixels[:, None] - (polygon + at * along), axis=2).min(1) > 1e-6  # centres on the line may be either
    inside = Polygon(np.vstack([polygon, polygon[:1]]), closed=True).contains_points(pixels)
    np.testing.assert_array_equal(fill_polygons([polygon], (20, 14)).ravel()[clear], inside[clear])


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 9), slope=st.sampled_from([-2, -1, 0, 1, 3]), order=st.booleans())
def test_polygons_that_share_an_edge_part_the_pixels_between_them(cut, slope, order):
    low, high = (cut, 0), (cut + slope, 9)  # through centres of pixels
    left = np.array([(-9, 0), low, high, (-9, 9)])[:: -1 if order else 1]
    right = np.array([low, (30, 0), (30, 9), high])
    parts = [fill_polygons([polygon], (12, 9)) for polygon in (left, right)]
    np.testing.assert_array_equal(parts[0].astype(int) + parts[1], 1)


def test_a_contour_within_another_is_a_hole_and_a_keyhole_is_the_same(tmp_path, series):
    outer, inner = circle((18, 14), 11.3), circle((18, 14), 5.2)
    bridge = np.vstack([outer, outer[:1], inner[::-1][-1:], inner[::-1], outer[:1]])
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"ring": [(1, outer), (1, inner), (2, outer), (3, bridge)]})
    labels = read_rtstruct(path, series=series)[0]
    distance = discs(SHAPE[:2], (18, 14))
    np.testing.assert_array_equal(labels[:, :, 1], (distance < 11.3) & (distance > 5.2))
    np.testing.assert_array_equal(labels[:, :, 2], distance < 11.3)
    np.testing.assert_array_equal(labels[:, :, 3], labels[:, :, 1])


def test_names_choose_and_join_rois_and_overlaps_are_named(tmp_path, series):
    rois = {"Left": [(0, circle((10, 14), 6.1))], "Right": [(0, circle((28, 14), 6.1))], "Body": [(0, circle((19, 14), 14.1))]}
    path = write_rtstruct(tmp_path / "rt.dcm", series, rois)
    with pytest.raises(DataError, match=r"rt.dcm: 'Body' and 'Left' overlap|rt.dcm: 'Body' and 'Right' overlap"):
        read_rtstruct(path, series=series)
    labels, names = read_rtstruct(path, series=series, names={"left": 2, "RIGHT": 2})
    assert names == {2: "Left + Right"}
    expected = (discs(SHAPE[:2], (10, 14)) < 6.1) | (discs(SHAPE[:2], (28, 14)) < 6.1)
    np.testing.assert_array_equal(labels[:, :, 0], 2 * expected)
    with pytest.raises(DataError, match=r"no organ 'Lefft' by ROIName \(3006,0026\): did you mean 'Left'\?"):
        read_rtstruct(path, series=series, names={"Lefft": 1})


def contour(header: Dataset) -> Dataset:
    return header.ROIContourSequence[0].ContourSequence[0]


def move(header: Dataset, axis: int, by: float, step: int = 3) -> None:
    data = np.array(contour(header).ContourData, float)
    data[axis::step] += by
    contour(header).ContourData = [f"{v:.6f}" for v in data]


SPOILED: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "another series": (
        lambda h: setattr(h.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID", "1.2.3"),
        r"another series than .*ct: FrameOfReferenceUID \(0020,0052\) is 1\.2\.3, there",
    ),
    "a point": (lambda h: setattr(contour(h), "ContourGeometricType", "POINT"), r"ContourGeometricType \(3006,0042\) is POINT"),
    "no contours": (lambda h: delattr(h.ROIContourSequence[0], "ContourSequence"), r"has no ContourSequence \(3006,0040\)"),
    "no list of contours": (lambda h: delattr(h, "ROIContourSequence"), r"lacks a tag .*ROIContourSequence"),
    "a number short": (
        lambda h: setattr(contour(h), "ContourData", contour(h).ContourData[:-1]),
        r"ContourData \(3006,0050\) is not a",
    ),
    "a point short": (lambda h: setattr(contour(h), "ContourData", contour(h).ContourData[:-3]), r"holds 719 points, told are 720"),
    "between slices": (
        lambda h: move(h, 2, 1.25),
        r"ContourData \(3006,0050\) of a contour near .* lies between slices \(slice 1\.50\)",
    ),
    "across slices": (lambda h: move(h, 2, 2.5, 9), r"ContourData .* runs across the slices"),
    "below": (lambda h: move(h, 2, -5), r"ContourData .* lies outside of the series"),
    "beside": (lambda h: move(h, 0, 20), r"ContourData .* lies outside of the series"),
}


@pytest.mark.parametrize("change, message", SPOILED.values(), ids=SPOILED.keys())
def test_contours_that_do_not_fit_are_refused_by_file_and_tag(tmp_path, series, change, message):
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"disc": [(1, circle((15, 14), 8))]})
    header = pydicom.dcmread(path)
    change(header)
    header.save_as(path)
    with pytest.raises(DataError, match=f"rt.dcm.*{message}"):
        read_rtstruct(path, series=series, names={"disc": 1})


def test_a_structure_set_with_a_frame_of_its_own_belongs_to_the_series_that_it_names(tmp_path, series):
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"disc": [(1, circle((15, 14), 8))]})
    header = pydicom.dcmread(path)
    frame, study, referenced = Dataset(), Dataset(), Dataset()
    referenced.SeriesInstanceUID = series.uid
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [referenced], [study]
    header.ReferencedFrameOfReferenceSequence = [frame]
    header.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    header.save_as(path)
    assert read_rtstruct(path, series=series)[0].any()


def test_without_names_marks_and_empty_rois_are_left_out_and_nothing_at_all_is_refused(tmp_path, series):
    path = write_rtstruct(
        tmp_path / "rt.dcm", series, {"mark": [(1, circle((15, 14), 8))], "none": [], "disc": [(2, circle((15, 14), 3))]}
    )
    header = pydicom.dcmread(path)
    contour(header).ContourGeometricType = "POINT"
    header.save_as(path)
    labels, names = read_rtstruct(path, series=series)
    assert names == {3: "disc"} and set(np.unique(labels)) == {0, 3}
    tiny = write_rtstruct(tmp_path / "tiny.dcm", series, {"dot": [(1, circle((15.5, 14.5), 0.1))], "none": []})
    with pytest.raises(DataError, match="tiny.dcm is empty: no voxel of dot"):
        read_rtstruct(tiny, series=series)
    with pytest.raises(DataError, match=r"slice_0001.dcm: SOPClassUID \(0008,0016\) is 'CT Image Storage'; give a RTSTRUCT file"):
        read_rtstruct(series.files[0], series=series)


def shoelace(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@pytest.mark.realdata
def test_the_phantom_structure_set_has_the_area_of_its_contours():
    folder = EDGE / "dicom_rtstruct_phantom"
    if not folder.is_dir():
        pytest.skip("the odd real files are not beside the checkout")
    series = read_series(folder)
    labels, names = read_rtstruct(folder / "rt.dcm", series=series)
    drawn = pydicom.dcmread(folder / "rt.dcm").ROIContourSequence[0].ContourSequence
    outer, hole = (shoelace(np.array(c.ContourData, float).reshape(-1, 3)[:, :2]) for c in drawn)
    assert names == {1: "ROI-1"} and not labels[:, :, 1].any()
    assert labels.sum() * np.prod(series.spacing[:2]) == pytest.approx(outer - hole, rel=0.03)


@pytest.mark.realdata
def test_an_organ_of_the_breast_structure_set_is_read_on_the_whole_series_and_refused_on_its_one_slice(tmp_path):
    folder = EDGE / "dicom_rtstruct_breast"
    if not folder.is_dir():
        pytest.skip("the odd real files are not beside the checkout")
    with pytest.raises(DataError, match=r"rtss.dcm: ROI 'Heart': ContourData .* lies outside of the series .*whole series"):
        read_rtstruct(folder / "rtss.dcm", series=read_series(folder), names={"heart": 1})
    header = pydicom.dcmread(folder / "rtss.dcm")
    number = next(roi.ROINumber for roi in header.StructureSetROISequence if roi.ROIName == "Heart")
    contours = next(item.ContourSequence for item in header.ROIContourSequence if item.ReferencedROINumber == number)
    points = [np.array(c.ContourData, float).reshape(-1, 3) for c in contours]
    low, high = (function(np.vstack(points)[:, 2]) for function in (np.min, np.max))
    affine = LPS @ np.array([[2.0, 0, 0, -60], [0, 2, 0, -400], [0, 0, 3, low], [0, 0, 0, 1]])
    write_series(tmp_path / "ct", np.zeros((120, 120, round((high - low) / 3) + 1)), affine, modality="CT")
    frame = pydicom.dcmread(next((tmp_path / "ct").iterdir())).FrameOfReferenceUID
    for roi in header.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = frame
    header.save_as(tmp_path / "rtss.dcm")
    labels, names = read_rtstruct(tmp_path / "rtss.dcm", series=read_series(tmp_path / "ct"), names={"heart": 4})
    drawn = sum(shoelace(p[:, :2]) for p in points) * 3
    assert names == {4: "Heart"} and (labels == 4).sum() * 2 * 2 * 3 == pytest.approx(drawn, rel=0.01)
