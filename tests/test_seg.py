"""DICOM SEG written and read: equal by highdicom alone whatever the orientation, and refused where it does not fit."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import SHARED
from dicom_series import AFFINE, LPS, edit, multiframe, volume
from highdicom.seg import Segmentation
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from monai_advdef.data import DataError, Series, read_series, write_series
from monai_advdef.dicom.seg_read import read_seg
from monai_advdef.dicom.seg_write import write_seg

pytestmark = pytest.mark.filterwarnings("ignore:The string")  # highdicom, on patients whose name is one word
NAMES = ["pancreas", "left kidney", "lesion"]
DICOM = SHARED / "abdomen_ct" / "dicom"
EDGE = SHARED / "edge"


def class_map(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Classes 0..3 at random, on some slices none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(NAMES) + 1, shape) * (rng.random(shape[2]) < 0.6)
    labels[0, 0, rng.integers(shape[2])] = 1
    return labels


def by_highdicom(path: Path, series: Series) -> np.ndarray:
    """What highdicom reads, each voxel put where its own geometry says."""
    found = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(found.array)
    place = np.linalg.inv(series.affine) @ LPS @ found.affine @ np.c_[index, np.ones(len(index))].T
    voxels = np.rint(place[:3]).astype(int)
    np.testing.assert_allclose(place[:3], voxels, atol=1e-2)
    labels = np.zeros(series.shape, int)
    labels[tuple(voxels)] = found.array[tuple(index.T)]
    return labels


AXES = st.permutations(range(3)).flatmap(
    lambda order: st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3).map(lambda signs: np.eye(3)[list(order)] * signs)
)
TURNS = st.integers(0, 10**6).map(lambda seed: Rotation.random(random_state=seed).as_matrix())


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    axes=AXES | TURNS,
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-400, 400)] * 3),
    shape=st.tuples(st.integers(1, 6), st.integers(8, 11), st.integers(1, 5)).map(lambda s: s if s[2] % 2 else (s[1], s[0], s[2])),
    one_file=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_written_class_map_is_read_back_by_highdicom_alone_and_by_us(axes, spacing, origin, shape, one_file, seed):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, origin
    order = np.random.default_rng(seed).permutation(shape[2])
    labels = class_map(shape, seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "ct"
        paths = write_series(folder, volume(shape), affine, modality="CT")
        if one_file:
            multiframe(paths, order).save_as(Path(scratch) / "frames.dcm")
        for path, name in zip(paths, order):
            path.rename(folder / f"x{name}")
        series = read_series(Path(scratch) / "frames.dcm" if one_file else folder)
        path = write_seg(Path(scratch) / "out" / "seg.dcm", labels, series=series, names=NAMES)
        np.testing.assert_array_equal(by_highdicom(path, series), labels)
        back, names = read_seg(path, series=series)
        refer = {
            (str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1)) - 1): position
            for position, source in sources(pydicom.dcmread(path))
        }
        slices = {
            (str(pydicom.dcmread(p).SOPInstanceUID), f): p for p in {*series.files} for f in range(shape[2] if one_file else 1)
        }
        for (uid, frame), position in refer.items():
            np.testing.assert_allclose(position_of(slices[uid, frame], frame), position, atol=1e-5)
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.uint8 and names == dict(enumerate(NAMES, 1))


def sources(seg: Dataset) -> list[tuple[list[float], Dataset]]:
    """The position of each frame and the image that it refers to."""
    return [
        (list(frame.PlanePositionSequence[0].ImagePositionPatient), frame.DerivationImageSequence[0].SourceImageSequence[0])
        for frame in seg.PerFrameFunctionalGroupsSequence
    ]


def position_of(path: Path, frame: int) -> list[float]:
    header = pydicom.dcmread(path)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    return list((groups[frame].PlanePositionSequence[0] if groups else header).ImagePositionPatient)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    write_series(tmp_path / "ct", volume((7, 6, 5)), AFFINE, modality="CT")
    return read_series(tmp_path / "ct")


@pytest.fixture
def seg(tmp_path: Path, series: Series) -> Path:
    return write_seg(tmp_path / "seg.dcm", class_map(series.shape), series=series, names=NAMES)


def test_segments_say_what_they_are_and_what_made_them(seg, series):
    found = highdicom.seg.segread(seg)
    assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == NAMES
    kinds = [found.get_segment_description(n).segmented_property_type for n in (1, 2, 3)]
    assert kinds == [codes.SCT.Pancreas, codes.SCT.Kidney, codes.SCT.Tissue]
    assert {found.get_segment_description(n).algorithm_type.value for n in (1, 2, 3)} == {"AUTOMATIC"}
    assert found.segmentation_type.value == "BINARY" and found.Modality == "SEG"
    source = pydicom.dcmread(series.files[0])
    for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        assert found[keyword].value == source[keyword].value
    assert found.SeriesInstanceUID != source.SeriesInstanceUID


def test_one_prediction_is_one_instance_and_another_is_another(tmp_path, series, seg):
    labels = class_map(series.shape)
    again = write_seg(tmp_path / "again.dcm", labels, series=series, names=NAMES)
    other = write_seg(tmp_path / "other.dcm", (labels + 1) % 4, series=series, names=NAMES)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (seg, again, other)]
    assert uids[0] == uids[1] != uids[2]


def test_headers_with_other_alphabets_and_without_optional_tags_serve(tmp_path, series):
    def spoil(header: Dataset) -> None:
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jörg"
        del header.StudyID, header.PatientSex, header.SliceThickness, header.StudyInstanceUID, header.FrameOfReferenceUID

    edit(tmp_path / "ct", spoil)
    path = write_seg(tmp_path / "seg.dcm", class_map(series.shape), series=series, names=["pâncreas", *NAMES[1:]])
    assert str(pydicom.dcmread(path).PatientName) == "Müller^Jörg"
    assert read_seg(path, series=series)[1][1] == "pâncreas"


def test_an_empty_prediction_is_written_and_refused_as_a_label(tmp_path, series):
    path = write_seg(tmp_path / "seg.dcm", np.zeros(series.shape), series=series, names=NAMES)
    assert not by_highdicom(path, series).any()
    with pytest.raises(DataError, match=r"seg.dcm is empty: no voxel of pancreas, left kidney, lesion"):
        read_seg(path, series=series)


def by_volume(path: Path, series: Series, change: Callable, kind: str = "BINARY", labels: np.ndarray | None = None) -> Path:
    """A SEG as highdicom writes a volume that ``change`` has moved about."""
    labels = class_map(series.shape) if labels is None else labels
    sources = [pydicom.dcmread(file) for file in series.files]
    grid = highdicom.Volume(
        labels.astype(np.uint8),
        LPS @ series.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
    )
    described = [
        highdicom.seg.SegmentDescription(n, name, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for n, name in enumerate(NAMES, 1)
    ]
    uids = generate_uid(), 1, generate_uid(), 1
    Segmentation(sources, change(grid), kind, described, *uids, "maker", "model", "1", "1", omit_empty_frames=False).save_as(path)
    return path


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_frames_may_lie_along_any_axis_of_the_series(tmp_path, series, kind, order):
    path = by_volume(tmp_path / "seg.dcm", series, lambda grid: grid.permute_spatial_axes(order).flip_spatial(1), kind)
    np.testing.assert_array_equal(read_seg(path, series=series)[0], class_map(series.shape))


def test_a_part_of_the_image_and_of_the_slices_goes_where_it_belongs(tmp_path, series):
    path = by_volume(tmp_path / "seg.dcm", series, lambda grid: grid[1:4, 2:6, 1:3].permute_spatial_axes((2, 1, 0)))
    expected = np.zeros(series.shape)
    expected[1:4, 2:6, 1:3] = class_map(series.shape)[1:4, 2:6, 1:3]
    np.testing.assert_array_equal(read_seg(path, series=series)[0], expected)


def test_names_choose_and_join_segments(seg, series):
    labels, names = read_seg(seg, series=series, names={"Pancreas": 5, "LESION": 300, "left kidney": 5})
    np.testing.assert_array_equal(labels, np.array([0, 5, 5, 300])[class_map(series.shape)])
    assert names == {5: "pancreas + left kidney", 300: "lesion"} and labels.dtype == np.uint16
    with pytest.raises(DataError, match=r"no organ 'left kidny' by SegmentLabel \(0062,0005\): did you mean 'left kidney'\?"):
        read_seg(seg, series=series, names={"left kidny": 1})
    with pytest.raises(DataError, match=r"class must lie in 1\.\.65535, got 0"):
        read_seg(seg, series=series, names={"lesion": 0})


def shared(header: Dataset) -> Dataset:
    return header.SharedFunctionalGroupsSequence[0]


def position(header: Dataset, axis: int, by: float) -> None:
    for frame in header.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[axis] += by


def elsewhere(header: Dataset) -> None:
    header.FrameOfReferenceUID = header.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def without_step(header: Dataset) -> None:
    del header.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


SPOILED: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "fractional": (lambda h: setattr(h, "SegmentationType", "FRACTIONAL"), r"SegmentationType \(0062,0001\) is FRACTIONAL"),
    "another series": (elsewhere, r"another series than .*ct: FrameOfReferenceUID \(0020,0052\) is 1\.2\.3, there"),
    "unknown segment": (
        lambda h: setattr(h.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9),
        r"ReferencedSegmentNumber \(0062,000B\) 9 of a frame is no segment: 1, 2, 3",
    ),
    "turned": (
        lambda h: setattr(shared(h).PlaneOrientationSequence[0], "ImageOrientationPatient", [0.8, 0.6, 0, -0.6, 0.8, 0]),
        r"ImageOrientationPatient \(0020,0037\) of .* does not follow the axes",
    ),
    "other pixels": (
        lambda h: setattr(shared(h).PixelMeasuresSequence[0], "PixelSpacing", [0.9, 0.8]),
        r"PixelSpacing \(0028,0030\) of .* is \[0\.9, 0\.8\] mm, of the series \[0\.9, 0\.7\]",
    ),
    "half a voxel": (lambda h: position(h, 0, 0.35), r"ImagePositionPatient \(0020,0032\) of .* between voxels"),
    "between slices": (lambda h: position(h, 2, 1.25), r"ImagePositionPatient \(0020,0032\) of .* between voxels"),
    "outside": (lambda h: position(h, 2, 25), r"ImagePositionPatient \(0020,0032\) of .* outside of the series"),
    "no place": (without_step, r"frame 1 has no ImagePositionPatient \(0020,0032\)"),
    "no segments": (lambda h: delattr(h, "SegmentSequence"), r"lacks a tag .*SegmentSequence"),
    "too few pixels": (lambda h: setattr(h, "PixelData", h.PixelData[:10]), r"PixelData \(7FE0,0010\) is truncated"),
}


@pytest.mark.parametrize("change, message", SPOILED.values(), ids=SPOILED.keys())
def test_a_seg_that_does_not_fit_is_refused_by_file_and_tag(seg, series, change, message):
    header = pydicom.dcmread(seg)
    change(header)
    header.save_as(seg)
    with pytest.raises(DataError, match=f"seg.dcm.*{message}"):
        read_seg(seg, series=series)


def test_the_frame_of_reference_or_the_series_must_be_the_same(seg, series):
    header = pydicom.dcmread(seg)
    header.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"  # another series of the examination
    header.save_as(seg)
    assert read_seg(seg, series=series)[0].any()


def test_overlapping_segments_are_named(tmp_path, series):
    labels = np.zeros((*series.shape, 3), np.uint8)
    labels[1:3, 1:3, 2, 0], labels[2:4, 1:3, 2, 2] = 1, 1
    headers = [pydicom.dcmread(file) for file in series.files]
    described = [highdicom.seg.SegmentDescription(n, NAMES[n - 1], codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for n in (1, 2, 3)]
    uids = generate_uid(), 1, generate_uid(), 1
    both = Segmentation(headers, labels.transpose(2, 1, 0, 3), "BINARY", described, *uids, "maker", "model", "1", "1")
    both.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match=r"seg.dcm: 'lesion' and 'pancreas' overlap \(2 voxels"):
        read_seg(tmp_path / "seg.dcm", series=series)
    one = read_seg(tmp_path / "seg.dcm", series=series, names={"lesion": 1})[0]
    np.testing.assert_array_equal(one, labels[..., 2])
    either = read_seg(tmp_path / "seg.dcm", series=series, names={"lesion": 1, "pancreas": 1})[0]
    np.testing.assert_array_equal(either, labels.max(-1))


def test_frames_that_stand_for_several_slices_are_refused(tmp_path, series):
    coarse = by_volume(tmp_path / "seg.dcm", series, lambda grid: grid[:, :, ::2].permute_spatial_axes((2, 1, 0)))
    header = pydicom.dcmread(coarse)
    shared(header).PixelMeasuresSequence[0].SpacingBetweenSlices = 5.0
    header.save_as(coarse)
    with pytest.raises(DataError, match=r"SpacingBetweenSlices \(0018,0088\) is 5.* mm, of the series 2.5: each frame stands for"):
        read_seg(coarse, series=series)


def test_what_is_no_seg_is_refused(tmp_path, series):
    (tmp_path / "notes.txt").write_text("liver")
    for path, message in [
        (series.files[0], r"SOPClassUID \(0008,0016\) is 'CT Image Storage'; give a DICOM SEG file"),
        (tmp_path / "notes.txt", "without the mark DICM"),
        (tmp_path / "absent.dcm", "is not a file"),
    ]:
        with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{message}"):
            read_seg(path, series=series)


@pytest.mark.parametrize(
    "labels, names, message",
    [
        (np.zeros((7, 6, 4)), NAMES, r"shape \(7, 6, 5\) of .*ct, got \(7, 6, 4\)"),
        (np.full((7, 6, 5), 0.5), NAMES, r"whole numbers in 0\.\.3 .*got 0\.5\.\.0\.5"),
        (np.full((7, 6, 5), 4), NAMES, r"whole numbers in 0\.\.3 .*got 4\.\.4"),
        (np.full((7, 6, 5), np.nan), NAMES, r"whole numbers in 0\.\.3 .*got nan"),
        (np.zeros((7, 6, 5)), [], r"one name per class, each once, got \[\]"),
        (np.zeros((7, 6, 5)), ["liver", "liver"], "each once"),
        (np.zeros((7, 6, 5)), ["liver" * 20], "1 to 64 characters"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, series, labels, names, message):
    with pytest.raises(DataError, match=message):
        write_seg(tmp_path / "seg.dcm", labels, series=series, names=names)


@pytest.mark.parametrize("keyword, value", [("SOPInstanceUID", None), ("PatientSex", "unknown")])
def test_a_series_whose_headers_cannot_bear_a_seg_is_refused(tmp_path, series, keyword, value):
    edit(tmp_path / "ct", lambda header: setattr(header, keyword, value) if value else delattr(header, keyword))
    if keyword == "SOPInstanceUID":  # the file meta information repeats it
        assert read_seg(write_seg(tmp_path / "seg.dcm", np.ones(series.shape), series=series, names=NAMES), series=series)[0].all()
        edit(tmp_path / "ct", lambda header: delattr(header.file_meta, "MediaStorageSOPInstanceUID"))
    with pytest.raises(DataError, match=rf"slice_0001.dcm.*{value or keyword}"):
        write_seg(tmp_path / "seg.dcm", np.zeros(series.shape), series=series, names=NAMES)


@pytest.mark.realdata
def test_the_liver_of_a_real_examination_is_read_as_highdicom_reads_it_and_written_again(tmp_path):
    folder = DICOM / "dcmqi_ct3_seg"
    if not folder.is_dir():
        pytest.skip("the real CT with its SEG is not beside the checkout")
    series = read_series(folder, modality="CT")
    labels, names = read_seg(folder / "liver_seg.dcm", series=series)
    np.testing.assert_array_equal(labels, by_highdicom(folder / "liver_seg.dcm", series))
    assert names == {1: "Liver"} and 90_000 < labels.sum() < 120_000
    assert 30 < np.median(series.array[labels == 1]) < 70  # HU of a liver without contrast
    assert np.mean(series.array[labels == 1] < -100) < 0.03 < np.mean(series.array[::-1][labels == 1] < -100)
    written = write_seg(tmp_path / "seg.dcm", labels, series=series, names=["liver"])
    np.testing.assert_array_equal(by_highdicom(written, series), labels)
    with pytest.raises(DataError, match=r"label.seg.dcm was made on another series"):
        read_seg(EDGE / "dicom_multiframe_ct" / "label.seg.dcm", series=series)


@pytest.mark.realdata
def test_a_real_seg_on_single_files_and_on_one_multi_frame_file_equals_its_nrrd():
    import SimpleITK

    folder = EDGE / "dicom_multiframe_ct"
    if not folder.is_dir():
        pytest.skip("the odd real files are not beside the checkout")
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "label.nrrd"))).T
    for source in ("image", "mf.dcm"):
        labels, _ = read_seg(folder / "label.seg.dcm", series=read_series(folder / source))
        np.testing.assert_array_equal(labels, expected != 0)
