"""DICOM series written and read: in any orientation and file order, as GDCM reads them."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import AFFINE, by_gdcm, edit, multiframe, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from monai_advdef.data import DataError, read_series, write_series

NAMES = ("t1", "t1ce", "t2", "flair")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "ct", volume(), AFFINE, modality="CT", description="thorax")
    return tmp_path / "ct"


AXES = st.permutations(range(3)).flatmap(
    lambda order: st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3).map(lambda signs: np.eye(3)[list(order)] * signs)
)
TURNS = st.integers(0, 10**6).map(lambda seed: Rotation.random(random_state=seed).as_matrix())


@settings(max_examples=20, deadline=None)
@given(
    axes=AXES | TURNS,
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-400, 400)] * 3),
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(2, 5)),
    modality=st.sampled_from(["CT", "MR"]),
    digits=st.sampled_from([3, 4, None]),
    seed=st.integers(0, 99),
)
def test_a_written_series_reads_back_in_any_orientation_and_file_order_as_gdcm_reads_it(
    axes, spacing, origin, shape, modality, digits, seed
):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, origin
    array = volume(shape, seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "a"
        paths = write_series(folder, array, affine, modality=modality)
        for path, name in zip(paths, np.random.default_rng(seed).permutation(len(paths))):
            path.rename(folder / f"x{name}")
        exact = read_series(folder, modality=modality)
        if digits:
            for path in folder.iterdir():
                dataset = pydicom.dcmread(path)
                dataset.ImageOrientationPatient = [round(float(v), digits) for v in dataset.ImageOrientationPatient]
                dataset.save_as(path)
        rounded, (array_there, affine_there) = read_series(folder), by_gdcm(folder)
    # each voxel stands at the same place in the patient, the third axis turned round where the affine was left-handed
    back = np.linalg.inv(exact.affine) @ affine
    np.testing.assert_allclose(back[:3, :3], np.diag([1, 1, np.sign(np.linalg.det(affine))]), atol=1e-6)
    np.testing.assert_array_equal(exact.array, array if np.linalg.det(affine) > 0 else array[:, :, ::-1])
    assert back[2, 3] == pytest.approx(0 if np.linalg.det(affine) > 0 else shape[2] - 1, abs=1e-5)
    np.testing.assert_allclose(exact.spacing, spacing, rtol=1e-6)
    np.testing.assert_array_equal(rounded.array, array_there)
    np.testing.assert_allclose(rounded.affine, affine_there, atol=2e-5)
    assert exact.array.dtype == np.float32 and len(exact.files) == shape[2] and exact.modality == modality


def test_a_single_slice_is_as_thick_as_its_tag_says(tmp_path):
    write_series(tmp_path / "one", volume((7, 6, 1)), AFFINE, modality="CT")
    np.testing.assert_allclose(read_series(tmp_path / "one").affine, AFFINE)


def test_values_are_rescaled_slice_by_slice(series):
    edit(series, lambda d: d.update({"RescaleSlope": "0.5", "RescaleIntercept": "-7.25"}), only=2)
    read = read_series(series)
    expected = volume().astype(float)
    expected[:, :, 2] = (expected[:, :, 2] + 1024) * 0.5 - 7.25
    np.testing.assert_array_equal(read.array, expected)
    assert read.rescale[1:3] == ((1.0, -1024.0), (0.5, -7.25))


def test_mr_without_rescale_tags_is_read_as_stored_and_other_files_are_listed(tmp_path):
    write_series(tmp_path / "mr", volume(low=0), AFFINE, modality="MR")
    (tmp_path / "mr" / "notes.txt").write_text("no image")
    read = read_series(tmp_path / "mr")
    np.testing.assert_array_equal(read.array, volume(low=0))
    assert [path.name for path in read.ignored] == ["notes.txt"] and read.others == ()


def test_a_series_is_chosen_by_its_uid(series):
    write_series(series.parent / "mr", volume(seed=1, low=0), AFFINE, modality="MR", description="t1")
    for path in (series.parent / "mr").iterdir():
        shutil.copy(path, series / f"mr_{path.name}")
    with pytest.raises(DataError, match=r"holds 2 series by SeriesInstanceUID \(0020,000E\).*CT 'thorax', 5 slice.*series_uid="):
        read_series(series)
    uid = pydicom.dcmread(series / "mr_slice_0001.dcm").SeriesInstanceUID
    np.testing.assert_array_equal(read_series(series, series_uid=uid).array, volume(seed=1, low=0))
    with pytest.raises(DataError, match=rf"no series {re.escape(uid[:-1])}; did you mean '{re.escape(uid)}'"):
        read_series(series, series_uid=uid[:-1])


def test_a_multi_frame_file_reads_as_its_single_frames(series):
    expected = read_series(series)
    file = series.parent / "multi"
    multiframe(sorted(series.iterdir()), np.array([3, 0, 4, 1, 2])).save_as(file)
    read = read_series(file)
    np.testing.assert_array_equal(read.array, expected.array)
    np.testing.assert_allclose(read.affine, expected.affine)
    assert read.rescale == expected.rescale


def test_rle_reads_as_uncompressed(series):
    edit(series, lambda d: d.compress(RLELossless))
    np.testing.assert_array_equal(read_series(series).array, volume())


def test_declared_padding_may_lie_outside_of_the_possible(series):
    edit(series, lambda d: (d.add_new("PixelPaddingValue", "SS", -32768), setattr(d, "PixelData", b"\0\x80" * 42)), only=2)
    np.testing.assert_array_equal(read_series(series).array[:, :, 2], -32768 - 1024)


def test_written_series_are_reproducible_and_belong_together(tmp_path):
    headers = {}
    for name in NAMES:
        for copy in "ab":
            paths = write_series(tmp_path / copy / name, volume(low=0), AFFINE, modality="MR", description=name)
        headers[name] = [pydicom.dcmread(path) for path in paths]
        assert [p.read_bytes() for p in sorted((tmp_path / "a" / name).iterdir())] == [p.read_bytes() for p in paths]
    every = [header for some in headers.values() for header in some]
    assert len({h.SOPInstanceUID for h in every}) == 20 and len({h.SeriesInstanceUID for h in every}) == 4
    assert len({h.StudyInstanceUID for h in every}) == len({h.FrameOfReferenceUID for h in every}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "PT"}, r"modality must be one of \['CT', 'MR'\], got 'PT'"),
        ({"array": volume((7, 6))}, r"array must be a volume .*\(7, 6\)"),
        ({"array": volume() * np.nan}, "NaN or infinite"),
        ({"array": volume() + 40000}, r"must lie in -33792..31743, got"),
        ({"affine": np.eye(3)}, r"finite \(4, 4\)"),
        ({"affine": np.diag([1.0, 0, 1, 1])}, "axis of length 0"),
        ({"affine": AFFINE + np.eye(4, k=1)}, "sheared"),
    ],
)
def test_volumes_that_dicom_cannot_hold_are_not_written(tmp_path, change, message):
    given_ = {"array": volume(), "affine": AFFINE, "modality": "CT"} | change
    with pytest.raises(DataError, match=message):
        write_series(tmp_path / "x", **given_)
    assert not (tmp_path / "x").exists()


def test_a_series_is_not_written_among_other_files(series):
    with pytest.raises(DataError, match="already holds slice_0003.dcm and 2 more"):
        write_series(series, volume((7, 6, 2)), AFFINE, modality="CT")
