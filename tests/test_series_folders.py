"""Folders of DICOM series as downloads and archives leave them: what is no slice is passed over, a damaged slice refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import AFFINE, volume
from mri_files import data_set

from monai_advdef.data import (
    DataError,
    LoadSeriesd,
    OrganLabelsd,
    check_folder,
    ct_items,
    organ_map,
    read_series,
    subject_items,
    write_abdomen_phantoms,
    write_seg,
    write_series,
)
from monai_advdef.dicom.folder import is_series, series_folders

APPLE = b"\0\5\x16\7" + bytes(4092)
STRAY = {"LICENSE": b"Creative Commons\n", "Thumbs.db": b"\xd0\xcf\x11\xe0", "metadata.csv": b"a,b\n", ".DS_Store": b"\0\0\0\1Bud1"}
OBJECTS = {
    "report": "1.2.840.10008.5.1.4.1.1.88.11",
    "presentation": "1.2.840.10008.5.1.4.1.1.11.1",
    "keys": "1.2.840.10008.5.1.4.1.1.88.59",
    "DICOMDIR": "1.2.840.10008.1.3.10",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_series(tmp_path / "ct", volume(), AFFINE, modality="CT")
    return tmp_path / "ct"


def other(folder, name, change):
    """A file beside the slices made from the first of them."""
    dataset = pydicom.dcmread(sorted(folder.glob("slice_*.dcm"))[0])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    change(dataset)
    dataset.save_as(folder / name)


def of_class(uid, pixels=False):
    def change(dataset):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
        dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
        if not pixels:
            del dataset.PixelData

    return change


def capture(same_series):
    def change(dataset):
        uid = dataset.SeriesInstanceUID
        of_class(pydicom.uid.SecondaryCaptureImageStorage, pixels=True)(dataset)
        dataset.SeriesInstanceUID = uid if same_series else dataset.SeriesInstanceUID
        dataset.PhotometricInterpretation = "RGB"
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"):
            del dataset[keyword]

    return change


def scout(same_series):
    def change(dataset):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        if not same_series:
            dataset.SeriesInstanceUID = pydicom.uid.generate_uid()

    return change


def same(folder, before, others):
    read = read_series(folder, modality="CT")
    np.testing.assert_array_equal(read.array, before)
    told = f"{folder}: passed over {len(others)} file(s) that are no slices ({', '.join(sorted(others))})"
    assert read.note == told
    with pytest.warns(UserWarning) as said:
        LoadSeriesd("image")({"image": str(folder)})
    assert [str(warning.message) for warning in said] == [told]


@pytest.mark.parametrize("name", STRAY)
def test_what_downloads_leave_is_passed_over_wherever_it_sorts(folder, name):
    before = read_series(folder).array
    (folder / name).write_bytes(STRAY[name])
    assert is_series(folder)
    same(folder, before, [name])


@pytest.mark.parametrize("name", OBJECTS)
def test_dicom_objects_that_are_no_images_are_passed_over(folder, name):
    before = read_series(folder).array
    other(folder, name, of_class(OBJECTS[name]))
    same(folder, before, [name])


@pytest.mark.parametrize("same_series", [True, False])
@pytest.mark.parametrize("change", [capture, scout])
def test_screenshots_and_scouts_are_passed_over(folder, change, same_series):
    before = read_series(folder).array
    other(folder, "x.dcm", change(same_series))
    same(folder, before, ["x.dcm"])


def test_apple_doubles_are_no_damaged_slices(folder):
    before = read_series(folder).array
    (folder / "._slice_0002.dcm").write_bytes(APPLE)
    same(folder, before, ["._slice_0002.dcm"])


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("place", [0, 2, -1])
@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_damaged_slice_is_refused_at_either_end_too(folder, suffix, place, content):
    for path in sorted(folder.glob("*.dcm")):
        path.rename(path.with_suffix(suffix))
    (folder / "LICENSE").write_bytes(b"free")
    path = sorted(folder.glob("slice_*"))[place]
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    with pytest.raises(DataError, match=path.name):
        read_series(folder)
    assert is_series(folder)


def test_a_missing_slice_and_links_to_nothing_are_refused(folder):
    (folder / "README").write_text("free")
    last = sorted(folder.glob("*.dcm"))[-1]
    last.unlink()
    last.symlink_to(folder / "annex" / "absent")
    with pytest.raises(DataError, match=rf"1 link\(s\) to files that are not there, such as {last.name}"):
        read_series(folder)
    last.unlink()
    sorted(folder.glob("*.dcm"))[2].unlink()
    with pytest.raises(DataError, match="missing"):
        read_series(folder)


def test_two_series_are_still_a_choice(folder):
    other(folder, "x.dcm", lambda dataset: setattr(dataset, "SeriesInstanceUID", "1.2.3"))
    with pytest.raises(DataError, match="holds 2 series.*choose one with series_uid="):
        read_series(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ct")
    write_abdomen_phantoms(root, cases=2, spacing=(8, 8, 8), dicom=True)
    return root


@pytest.fixture
def ct(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set"


def test_check_knows_the_task_and_tells_what_it_passes_over(ct):
    series = sorted(path for path in (ct / "dicom").iterdir() if path.is_dir())
    for folder in series:
        for name, content in STRAY.items():
            (folder / name).write_bytes(content)
    report = check_folder(ct)
    assert "task abdomen" in report.title and report.cases == 2 and not report.problems
    assert [f"{folder}: passed over 4 file(s)" in " ".join(report.notes) for folder in series] == [True, True]


@pytest.mark.parametrize("names", [("study", "series"), ("1.2.840.1", "1.2.840.1.77")])
def test_series_below_study_folders_are_found_with_their_label_inside(ct, names):
    for series in sorted(path for path in (ct / "dicom").iterdir() if path.is_dir()):
        deep = series.joinpath(*names)
        deep.mkdir(parents=True)
        for path in sorted(series.glob("*.dcm")):
            path.rename(deep / path.stem)
        (deep.parent / "SEG").mkdir()
        label = series.with_name(f"{series.name}_label.nii.gz")
        read = read_series(deep)
        values = OrganLabelsd("label")({"image": LoadSeriesd("image")({"image": str(deep)})["image"], "label": str(label)})["label"]
        write_seg(deep.parent / "SEG" / "1-1.dcm", values[0].numpy(), series=read, names=organ_map().names)
        label.unlink()
    items = ct_items(ct)
    assert [item["case"] for item in items] == ["phantom_0000", "phantom_0001"]
    assert all(Path(item["image"]).parts[-2:] == names and item["label"].endswith("SEG/1-1.dcm") for item in items)
    report = check_folder(ct)
    assert report.cases == 2 and not report.problems and "task abdomen" in report.title


def test_several_series_below_one_folder_are_refused_by_name(ct):
    series = ct / "dicom" / "phantom_0000"
    shutil.copytree(series, ct / "copy")
    shutil.move(ct / "copy", series / "b")
    (series / "a").mkdir()
    for path in series.glob("*.dcm"):
        path.rename(series / "a" / path.name)
    assert [path.name for path in series_folders(series)] == ["a", "b"]
    report = check_folder(ct)
    assert report.cases == 2 and "phantom_0000 holds 2 series (a, b); keep the one" in report.problems[0]


def test_series_in_the_folder_itself_are_ct_by_their_modality(ct):
    for path in (ct / "dicom").iterdir():
        path.rename(ct / path.name)
    (ct / "dicom").rmdir()
    report = check_folder(ct)
    assert "task abdomen" in report.title and report.cases == 2 and not report.problems


def test_ct_for_the_mri_task_and_the_reverse_are_refused_by_both_names(ct, tmp_path):
    with pytest.raises(DataError, match="holds CT volumes, and the task glioma takes MRI.*choose the task abdomen"):
        subject_items(ct, "glioma")
    write_abdomen_phantoms(tmp_path / "nifti", cases=1, spacing=(8, 8, 8))
    with pytest.raises(DataError, match="holds CT volumes, and the task glioma takes MRI.*choose the task abdomen"):
        subject_items(tmp_path / "nifti", "glioma")
    (tmp_path / "total" / "s0001").mkdir(parents=True)
    shutil.copy(tmp_path / "nifti" / "images" / "phantom_0000.nii.gz", tmp_path / "total" / "s0001" / "ct.nii.gz")
    with pytest.raises(DataError, match="no volume called like one of these.*for CT choose the task abdomen"):
        subject_items(tmp_path / "total", "glioma")
    about = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": []}
    (tmp_path / "total" / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="a data set of CT, and the task glioma takes MRI .*choose the task abdomen"):
        subject_items(tmp_path / "total", "glioma")
    with pytest.raises(DataError, match="holds MRI subjects .*this task takes CT; choose the task glioma"):
        ct_items(data_set(tmp_path / "mri"))


def test_entries_that_are_not_used_are_counted(ct):
    (ct / "dicom" / "empty").mkdir()
    (ct / "dicom" / "gone").symlink_to(ct / "absent")
    report = check_folder(ct)
    assert any("1 entries of" in note and "empty" in note for note in report.notes)
    assert report.cases == 3 and any("gone" in problem for problem in report.problems)
