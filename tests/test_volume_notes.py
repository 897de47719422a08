"""What is said of volumes: files left out, notes of one kind together, padding, organs chosen, and a folder of another task."""

from __future__ import annotations

import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
from dicom_series import AFFINE, edit
from mri_files import data_set, save, subject, volumes

from monai_advdef.data import (
    DataError,
    LoadSeriesd,
    WindowHUd,
    check_folder,
    ct_items,
    dataset,
    organ_map,
    read_series,
    subject_items,
    write_seg,
    write_series,
)
from monai_advdef.dicom.notes import united

ORGANS = organ_map()
CLASSES = np.zeros((14, 12, 6), np.uint8)
CLASSES[3:11, 2:10, 1:5] = np.random.default_rng(0).integers(0, ORGANS.classes, (8, 8, 4))
STORED = np.array([0, *(values[0] for values in ORGANS.values.values())], np.uint8)[CLASSES]


def scans(root, cases=3, label="nifti"):
    for number in range(cases):
        series = root / f"dicom/p{number}"
        write_series(series, np.where(CLASSES, 60, -1000), AFFINE, modality="CT", patient=f"p{number}")
        if label == "nifti":
            nib.save(nib.Nifti1Image(STORED, AFFINE), root / f"dicom/p{number}_label.nii.gz")
        else:
            write_seg(series / "organs.dcm", CLASSES, series=read_series(series), names=ORGANS.names)
    return root


def test_notes_of_one_kind_are_united():
    notes = [f"/data/dicom/p{n}: passed over {n} file(s) that are no slices (a{n}.txt)" for n in range(1, 41)]
    (told,) = united(notes)
    assert told.startswith(f"{notes[0]} (and 39 notes like it: /data/dicom/p2, ") and told.endswith("/data/dicom/p21, ...)")
    assert united([*notes[:3], "s1 shows no liver", *notes[:1]]) == [*notes[:3], "s1 shows no liver"]
    named = [f"subject {name}: /d/{name}/t1.nii.gz has neither sform nor qform" for name in ("ann", "bob", "eve", "kim")]
    assert united(named) == [f"{named[0]} (and 3 notes like it: bob, eve, kim)"]
    assert (
        len(united(["the case 'a': liver and spleen overlap", *(f"c{n} shows no {o}" for n in range(4) for o in ("x", "y"))])) == 3
    )


def test_check_and_loaders_tell_what_series_hold_besides_once(tmp_path):
    scans(tmp_path, cases=6)
    for number in range(6):
        (tmp_path / f"dicom/p{number}/LICENSE").write_text("terms")
    (note,) = [note for note in check_folder(tmp_path).notes if "passed over" in note]
    assert "p0: passed over 1 file(s)" in note and "5 notes like it" in note
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load = LoadSeriesd("image")
        for item in ct_items(tmp_path):
            load(item)
    assert len([warning for warning in told if "passed over" in str(warning.message)]) == 2


def test_the_label_among_the_slices_is_not_passed_over(tmp_path):
    scans(tmp_path, label="seg")
    (tmp_path / "dicom/p1/notes.txt").write_text("text")
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 3
    assert [note for note in report.notes if "passed over" in note] == [
        f"{tmp_path}/dicom/p1: passed over 1 file(s) that are no slices (notes.txt)"
    ]


def test_of_two_segmentations_among_the_slices_none_is_picked(tmp_path):
    scans(tmp_path, label="seg")
    series = tmp_path / "dicom/p0"
    (series / "organs.dcm").rename(series / "liver_seg.dcm")
    shutil.copy(series / "liver_seg.dcm", series / "kidney_seg.dcm")
    (problem,) = check_folder(tmp_path).problems
    assert "p0 holds 2 label files (kidney_seg.dcm, liver_seg.dcm)" in problem


@pytest.mark.parametrize(("vr", "value"), [("SS", -32000), ("US", 33536)])
def test_declared_padding_is_the_remedy_that_the_error_names(tmp_path, vr, value):
    def spoil(dataset):
        pixels = dataset.pixel_array.copy()
        pixels[:2, :2] = -32000
        dataset.PixelData = pixels.tobytes()

    scans(tmp_path)
    edit(tmp_path / "dicom/p0", spoil)
    (problem,) = check_folder(tmp_path).problems
    assert "p0/slice_0001.dcm: values must lie in" in problem and "declare PixelPaddingValue" in problem
    edit(tmp_path / "dicom/p0", lambda dataset: dataset.add_new("PixelPaddingValue", vr, value))
    assert not check_folder(tmp_path).problems
    image = LoadSeriesd("image", modality="CT", ensure_channel_first=True)({"image": str(tmp_path / "dicom/p0")})
    windowed = WindowHUd("image")(image)["image"].numpy()[0]
    np.testing.assert_array_equal(windowed, np.where(CLASSES, 60, -160))


def test_slices_in_folders_of_their_own_are_told_to_be_put_together(tmp_path):
    scans(tmp_path)
    for path in sorted((tmp_path / "dicom/p0").iterdir()):
        (path.parent / path.stem).mkdir()
        path.rename(path.parent / path.stem / path.name)
    (problem,) = check_folder(tmp_path).problems
    assert "p0 holds 6 series" in problem and "slices of one series, put these into one folder" in problem


def test_organs_may_be_text_and_the_others_of_the_map_stay_known(tmp_path):
    scans(tmp_path)
    assert organ_map("abdomen", "liver").names == ["liver"]
    assert organ_map("abdomen", "[spleen, 'liver']").names == ["spleen", "liver"]
    with pytest.raises(DataError, match="no organ 'lever'.*did you mean 'liver'"):
        organ_map("abdomen", "lever")
    cases = dataset("abdomen", tmp_path, organs="liver, spleen", test_only=True)["test"]
    assert [sum(case["annotated"]) for case in cases] == [3, 3, 3] and 7 in cases[0]["known_values"]


@pytest.mark.parametrize(("task", "other"), [("abdomen", "glioma"), ("glioma", "abdomen"), ("skin", "glioma"), ("skin", "abdomen")])
def test_a_folder_of_another_task_is_called_so(tmp_path, task, other):
    data_set(tmp_path) if other == "glioma" else scans(tmp_path)
    with pytest.raises(DataError, match=f"of the task {other}, since it holds .*; the task {task} takes .*choose --task {other}"):
        check_folder(tmp_path, task=task)


def test_subjects_may_lie_three_folders_down_and_spare_volumes_are_told(tmp_path):
    home = tmp_path / "MICCAI_BraTS_2018_Data_Training"
    for name, grade in (("a", "HGG"), ("b", "HGG"), ("c", "LGG")):
        subject(home / grade / name)
    (home / "HGG/empty").mkdir()
    made = volumes()
    save(home / "HGG/a/a_seg_old.nii.gz", made["seg"])
    report = check_folder(tmp_path)
    assert report.cases == 3 and report.grades == {"high": 2, "low": 1} and not report.problems
    assert any("1 folder(s) without a series" in note and "empty" in note for note in report.notes)
    assert any("1 volume(s) called like no series" in note and "a_seg_old.nii.gz" in note for note in report.notes)
    assert [item["case"] for item in subject_items(tmp_path, "glioma")] == ["a", "b", "c"]


def test_a_series_in_another_format_is_to_be_converted(tmp_path):
    data_set(tmp_path)
    image = nib.load(tmp_path / "a/t1.nii.gz")
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), image.affine), tmp_path / "a/t1.img")
    (tmp_path / "a/t1.nii.gz").unlink()
    (problem,) = check_folder(tmp_path).problems
    assert "subject a has no t1" in problem and "convert t1.hdr to NIfTI" in problem


def test_the_cavity_of_brats_2024_is_background_by_the_remedy(tmp_path):
    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}
    made = volumes(values=(0, 1, 2, 3, 4))
    for case in "abc":
        for role, name in names.items():
            save(tmp_path / case / f"{case}-{name}.nii.gz", made[role])
    problems = check_folder(tmp_path).problems
    assert len(problems) == 3 and all("resection cavity" in problem for problem in problems)
    patterns = [f"{{case}}/{{case}}-{name}.nii.gz" for name in names.values()]
    options = {"images": patterns[:4], "masks": patterns[4], "values": "0=0,1=1,2=2,3=3,4=0"}
    label = nib.load(dataset("glioma", tmp_path, tmp_path / "phantom", test_only=True, **options)["test"][0]["label"])
    expected = np.array([0, 1, 2, 4, 0])[made["seg"]]
    np.testing.assert_array_equal(np.asarray(label.dataobj), expected)
