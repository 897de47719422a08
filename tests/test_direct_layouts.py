"""Layouts that are used where they lie: recognised with a reason, checked, loaded and converted alike."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_folders import (
    drawn,
    ham10000,
    lung,
    mask,
    montgomery,
    msd,
    nnunet,
    nnunet_pictures,
    organ,
    pairs,
    ph2,
    picture,
    pixels,
    scan,
    sections,
    shenzhen,
    totalsegmentator,
    volume,
    voxels,
    write_json,
)

from monai_advdef.__main__ import main
from monai_advdef.data import DataError, check_folder, dataset, prepare
from monai_advdef.data.layouts.core import recognise

PICTURES = {
    "nnunet": (nnunet_pictures, "skin", 12, "dataset.json names channel_names and imagesTr/"),
    "ham10000": (ham10000, "skin", 12, "HAM10000_images_part_1 and HAM10000_images_part_2"),
    "montgomery": (montgomery, "lung", 12, "a lung a file"),
    "shenzhen": (shenzhen, "lung", 12, r"\*_mask.png, as Shenzhen"),
    "ph2": (ph2, "skin", 8, "IMD000_Dermoscopic_Image"),
    "paired": (pairs, "skin", 12, "000.jpg has its mask 000_mask.png beside it"),
    "sections": (sections, "skin", 18, r"\{section\}/images/"),
}
NAMES = {"shenzhen": "montgomery"}


def cases_of(found):
    return {pair["case"]: pair for pairs in found.values() for pair in pairs}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_recognised_checked_loaded_and_converted_alike(tmp_path, name):
    make, task, count, reason = PICTURES[name]
    make(tmp_path / "set")
    assert recognise(tmp_path / "set").name == NAMES.get(name, name)
    report = check_folder(tmp_path / "set")
    assert not report.problems and report.cases == count == report.patients == sum(report.sections.values())
    with pytest.raises(AssertionError, match=f"recognised as .* because .*{reason}"):
        raise AssertionError(str(report))
    found = dataset(task, tmp_path / "set", tmp_path / "bundle" / "phantom")
    assert {section: len(pairs) for section, pairs in found.items()} == dict(report.sections), "what check says is what happens"
    prepare(tmp_path / "set", tmp_path / "out", task=task)
    plain = dataset(task, tmp_path / "out")
    for section in found:
        assert sorted(pair["case"] for pair in found[section]) == sorted(pair["case"] for pair in plain[section])
    for case, pair in cases_of(plain).items():
        there = cases_of(found)[case]
        np.testing.assert_array_equal(pixels(pair["image"]), pixels(there["image"]))
        np.testing.assert_array_equal(pixels(pair["label"]) > 0, pixels(there["label"]) > 0)
    assert not check_folder(tmp_path / "out", task=task).problems


def test_masks_stay_where_they_are_unless_they_must_be_joined(tmp_path):
    ham10000(tmp_path / "ham")
    found = dataset("skin", tmp_path / "ham", tmp_path / "bundle" / "phantom")
    assert all(Path(pair["label"]).is_relative_to(tmp_path / "ham") for pair in cases_of(found).values())
    assert not (tmp_path / "bundle").exists()
    montgomery(tmp_path / "lungs")
    found = dataset("lung", tmp_path / "lungs", tmp_path / "bundle" / "phantom")
    for pair in cases_of(found).values():
        assert Path(pair["label"]).parent == tmp_path / "bundle" / "converted"
        np.testing.assert_array_equal(pixels(pair["label"]), lung("leftMask") | lung("rightMask"))
    again = dataset("lung", tmp_path / "lungs", tmp_path / "bundle" / "phantom")
    assert again == found and len(list((tmp_path / "bundle/converted").iterdir())) == 12


def test_a_changed_mask_is_never_served_from_before(tmp_path):
    montgomery(tmp_path / "set")
    dataset("lung", tmp_path / "set", tmp_path / "phantom")
    path = tmp_path / "set/MontgomerySet/ManualMask/leftMask/MCUCXR_0003_0.png"
    mask(path, where=np.zeros((24, 24), bool))
    pair = cases_of(dataset("lung", tmp_path / "set", tmp_path / "phantom"))["MCUCXR_0003_0"]
    np.testing.assert_array_equal(pixels(pair["label"]), lung("rightMask"))


def test_single_lungs_without_a_heart_are_refused(tmp_path):
    montgomery(tmp_path)
    with pytest.raises(DataError, match="draws no heart, whose scores would mean nothing; leave multi at false"):
        dataset("lung", tmp_path, tmp_path / "phantom", multi=True)
    assert main(["check", str(tmp_path), "--multi"]) == 2


def test_views_of_one_lesion_are_one_patient(tmp_path):
    ham10000(tmp_path / "set", cases=24, lesions=12)
    report = check_folder(tmp_path / "set")
    assert (report.cases, report.patients) == (24, 12) and not any("HAM10000_metadata" in note for note in report.notes)
    found = dataset("skin", tmp_path / "set", tmp_path / "phantom")
    sides = {section: {pair["patient"] for pair in pairs} for section, pairs in found.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["validation"]
    (tmp_path / "set" / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx\nHAM_1,ISIC_0000000,nv\n")
    (problem,) = check_folder(tmp_path / "set").problems
    assert "leaves out 23 images" in problem


def test_what_is_left_out_is_counted(tmp_path):
    shenzhen(tmp_path / "s")
    report = check_folder(tmp_path / "s")
    assert report.cases == 12 and any("2 of 14 cases have no mask" in note and "left out" in note for note in report.notes)
    ham10000(tmp_path / "h")
    picture(tmp_path / "h" / "extra" / "a.png")
    notes = check_folder(tmp_path / "h").notes
    assert any("1 files fit no pattern and are left out (1 in extra)" in note for note in notes)
    assert any("views of one lesion may lie in train and in test" in note for note in notes)


@pytest.mark.parametrize(
    ("image", "drawing"),
    [
        ("{section}/images/{case}.png", "{section}/labels/{case}.png"),
        ("images/{section}/{case}.jpg", "masks/{section}/{case}.png"),
        ("img_dir/{section}/{case}.jpg", "ann_dir/{section}/{case}.png"),
        ("{section}_images/{case}.png", "{section}_masks/{case}_mask.png"),
        ("{section}/Images/{case}.png", "{section}/GroundTruth/{case}.png"),
        ("Images-{section}/{case}.png", "Masks-{section}/{case}.png"),
        ("images_{section}/{case}.png", "masks_{section}/{case}.png"),
        ("{section}/{case}.png", "{section}_masks/{case}_segmentation.png"),
    ],
)
def test_train_and_test_folders_of_many_kinds(tmp_path, image, drawing):
    parts = (("train", 8), ("val", 4), ("test", 5))
    sections(tmp_path, parts=parts, image=image, drawing=drawing)
    report = check_folder(tmp_path)
    assert not report.problems and dict(report.sections) == {"train": 8, "validation": 4, "test": 5}, str(report)
    found = dataset("skin", tmp_path, tmp_path / "p")
    for number, case in enumerate(sorted(cases_of(found))):
        np.testing.assert_array_equal(pixels(cases_of(found)[case]["label"]) > 0, drawn(number))


def test_dotted_names_and_two_spellings(tmp_path):
    for k in range(3):
        picture(tmp_path / f"Training/Images/1.2.840.{k}.JPG", k)
        mask(tmp_path / f"Training/Masks/1.2.840.{k}.png", k)
    found = dataset("skin", tmp_path, tmp_path / "p")
    assert sorted(cases_of(found)) == ["1.2.840.0", "1.2.840.1", "1.2.840.2"]


def test_an_official_split_without_validation_gives_it_an_eighth(tmp_path):
    sections(tmp_path, parts=(("train", 16), ("test", 5)))
    report = check_folder(tmp_path)
    assert report.sections["test"] == 5 and report.sections["train"] + report.sections["validation"] == 16
    assert report.sections["validation"] and any("no official validation part" in note for note in report.notes)


def test_test_images_without_masks_are_left_out(tmp_path):
    sections(tmp_path, parts=(("train", 12), ("test", 6)))
    shutil.rmtree(tmp_path / "test" / "masks")
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 12 and any("6 images of test" in note for note in report.notes)


def test_one_name_in_two_sections(tmp_path):
    for section, start in (("train", 0), ("test", 3)):
        for k in range(3):
            picture(tmp_path / section / "images" / f"{k}.png", start + k)
            mask(tmp_path / section / "masks" / f"{k}.png", start + k)
    found = dataset("skin", tmp_path, tmp_path / "p")
    assert sorted(pair["case"] for pair in found["test"]) == ["test_0", "test_1", "test_2"] and len(cases_of(found)) == 6
    shutil.copy(tmp_path / "train/images/1.png", tmp_path / "test/images/1.png")
    problems = check_folder(tmp_path).problems
    assert len(problems) == 1 and "are the same picture in test and in train" in problems[0]


def test_a_folder_a_patient(tmp_path):
    for patient in range(6):
        for k in range(3):
            picture(tmp_path / f"TCGA_{patient}" / f"TCGA_{patient}_{k}.tif", 3 * patient + k)
            mask(tmp_path / f"TCGA_{patient}" / f"TCGA_{patient}_{k}_mask.tif", k)
    report = check_folder(tmp_path)
    assert (report.cases, report.patients) == (18, 6) and not report.problems


def test_several_data_sets_side_by_side_are_not_mixed_or_lost(tmp_path):
    sections(tmp_path / "a")
    sections(tmp_path / "b")
    (problem,) = check_folder(tmp_path).problems
    assert "holds 2 data sets (a, b); give one of them" in problem


# Volumes.


def test_msd_of_an_organ(tmp_path):
    msd(tmp_path / "Task09_Spleen", tests=2)
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 4 and "t1" not in str(report)
    assert any("2 cases of imagesTs have no labels" in note for note in report.notes)
    found = dataset("abdomen", tmp_path / "Task09_Spleen", tmp_path / "b" / "phantom")
    assert {s: len(items) for s, items in found.items()} == dict(report.sections)
    for case, item in cases_of(found).items():
        assert item["annotated"] == [True, False, False, False, True], "the spleen alone was outlined"
        np.testing.assert_array_equal(voxels(item["label"]) == 1, organ(int(case[-1])))


def test_a_tumour_belongs_to_its_organ(tmp_path):
    msd(tmp_path / "set", labels=("background", "liver", "cancer"))
    for k in range(4):
        shape = organ(k).astype(np.uint8)
        shape[4, 3:5, 2:4] = 2
        volume(tmp_path / f"set/labelsTr/spleen_{k}.nii.gz", shape)
    report = check_folder(tmp_path / "set")
    assert not report.problems and any("2 (cancer) counts as liver" in note for note in report.notes)
    with pytest.warns(UserWarning, match="counts as liver"):
        found = dataset("abdomen", tmp_path / "set", tmp_path / "b" / "phantom")
    for case, item in cases_of(found).items():
        np.testing.assert_array_equal(voxels(item["label"]) == 5, organ(int(case[-1]))), "5 is the liver of the organ map"


def test_nnunet_of_organs(tmp_path):
    nnunet(tmp_path / "Dataset219_AMOS", labels={"background": 0, "right kidney": 1, "aorta": 2})
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 6 and any("2 (aorta)" in note and "background" in note for note in report.notes)
    found = dataset("abdomen", tmp_path / "Dataset219_AMOS", tmp_path / "b" / "phantom")
    for case, item in cases_of(found).items():
        np.testing.assert_array_equal(voxels(item["label"]) == 2, organ(int(case[-1])))
    prepare(tmp_path / "Dataset219_AMOS", tmp_path / "out")
    assert check_folder(tmp_path / "out").cases == 6 and not check_folder(tmp_path / "out").problems


SERIES = ("FLAIR", "T1w", "t1gd", "T2w")
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


def brain(root, labels, *, cases=4):
    nnunet(root, cases=cases, channels=SERIES, labels=labels)
    for k in range(cases):
        shape = np.zeros((12, 10, 8), np.uint8)
        shape[3:9, 2:8, 1:7], shape[4:8, 3:7, 2:6], shape[5:7, 4:6, 3:5] = 1, 2, 3
        volume(root / f"labelsTr/amos_{k:04}.nii.gz", shape)
        for number in range(4):
            scan(root / f"imagesTr/amos_{k:04}_{number:04}.nii.gz", 10 * number + k, low=0)


def test_nnunet_of_gliomas_by_regions_and_series_by_name(tmp_path):
    brain(tmp_path, REGIONS)
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 4 and "task glioma" in str(report)
    items = cases_of(dataset("glioma", tmp_path, tmp_path / "p")).values()
    for item in items:
        assert [Path(path).name[-8] for path in item["image"]] == ["1", "2", "3", "0"], "t1, t1ce, t2, flair"
        assert tuple(item["label_values"]) == (0, 2, 1, 3), "core, oedema, enhancing, by the regions that hold each value"


def test_totalsegmentator(tmp_path):
    totalsegmentator(tmp_path, splits=("train", "train", "val", "test"))
    report = check_folder(tmp_path)
    assert not report.problems and dict(report.sections) == {"train": 2, "validation": 1, "test": 1}
    found = dataset("abdomen", tmp_path, tmp_path / "b" / "phantom")
    assert [item["case"] for item in found["test"]] == ["s0003"]
    (item,) = found["validation"]
    label = voxels(item["label"])
    np.testing.assert_array_equal(label == 5, organ(2))
    np.testing.assert_array_equal((label == 2) | (label == 3), np.roll(organ(2), 5, 1) & ~organ(2))
    assert item["annotated"] == [True, False, True, True, False] and not (label > 5).any()


BROKEN = {
    "no label": (nnunet, "abdomen", lambda r: (r / "labelsTr/amos_0002.nii.gz").unlink(), "1 of 6 cases in imagesTr have no label"),
    "no channel": (
        lambda r: nnunet(r, channels=SERIES),
        "glioma",
        lambda r: (r / "imagesTr/amos_0002_0001.nii.gz").unlink(),
        "'amos_0002' in imagesTr has no file of channel 1",
    ),
    "no dataset.json": (nnunet, "abdomen", lambda r: (r / "dataset.json").unlink(), "has no dataset.json"),
    "dataset.json cut": (nnunet, "abdomen", lambda r: (r / "dataset.json").write_text('{"labels": '), "cannot be understood"),
    "labels of another organ": (lambda r: nnunet(r, labels={"background": 0, "hippocampus": 1}), "abdomen", None, "hippocampus"),
    "a file of the list": (msd, "abdomen", lambda r: (r / "imagesTr/spleen_1.nii.gz").unlink(), "there is no file .*spleen_1"),
    "no organ": (totalsegmentator, "abdomen", lambda r: shutil.rmtree(r / "s0001/segmentations"), "s0001 has no mask"),
    "unknown split": (
        lambda r: totalsegmentator(r, splits=("train", "train", "holdout", "test")),
        "abdomen",
        None,
        "s0002 has the split 'holdout'",
    ),
    "unknown structure": (
        lambda r: nnunet_pictures(r, labels={"background": 0, "road": 1}),
        "skin",
        None,
        "road, of which none is lesion",
    ),
    "unknown value": (lambda r: nnunet_pictures(r, value=3), "skin", None, "holds the value 3, of which nothing is told"),
    "pixels to ignore": (
        lambda r: nnunet_pictures(r, value=2, labels={"background": 0, "lesion": 1, "ignore": 2}),
        "skin",
        None,
        "holds the value 2, pixels to ignore",
    ),
    "one lung": (
        montgomery,
        "lung",
        lambda r: (r / "MontgomerySet/ManualMask/leftMask/MCUCXR_0002_0.png").unlink(),
        r"1 of 12 cases have no mask ManualMask/leftMask/\{case\}",
    ),
    "a dangling link": (
        pairs,
        "skin",
        lambda r: ((r / "003.jpg").unlink(), (r / "003.jpg").symlink_to(r / "annex" / "3.jpg")),
        "003",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_makes_a_number_wrong_is_a_problem_and_stops_the_loaders(tmp_path, name, capsys):
    make, task, spoil, told = BROKEN[name]
    make(tmp_path / "set")
    if spoil:
        spoil(tmp_path / "set")
    report = check_folder(tmp_path / "set", task=task)
    with pytest.raises(DataError, match=told):
        raise DataError("\n".join(report.problems))
    with pytest.raises(DataError, match=told):
        dataset(task, tmp_path / "set", tmp_path / "b" / "phantom")
    assert main(["check", str(tmp_path / "set"), "--task", task]) == 2
    assert "problem" in capsys.readouterr().err


def test_a_scan_is_never_told_to_be_another(tmp_path, capsys):
    """A CT folder of a form that nobody knows, and CT that no task is made for."""
    for k in range(3):
        scan(tmp_path / f"own/patient{k}/volume.nii.gz", k)
        volume(tmp_path / f"own/patient{k}/label.nii.gz", organ(k))
    assert main(["check", str(tmp_path / "own")]) == 2
    said = capsys.readouterr()
    assert "t1.nii" not in said.out + said.err and "--images '{case}/volume.nii.gz' --masks '{case}/label.nii.gz'" in said.err
    with pytest.raises(DataError, match="nor is it a folder for abdomen, with images/ and labels/"):
        dataset("abdomen", tmp_path / "own")
    msd(tmp_path / "heart", labels=("background", "left atrium"), modality="MRI")
    assert main(["check", str(tmp_path / "heart")]) == 2
    said = capsys.readouterr().out
    assert "names the structures left atrium and the images MRI" in said and "--task" in said and "t1.nii" not in said


def test_the_wrong_task_is_told_in_words_of_that_task(tmp_path):
    msd(tmp_path / "msd")
    with pytest.raises(DataError, match="no t1 among the channels CT; the task glioma takes t1, t1ce, t2, flair"):
        dataset("glioma", tmp_path / "msd", tmp_path / "p")
    with pytest.raises(DataError, match="holds volumes, the task skin takes pictures"):
        dataset("skin", tmp_path / "msd", tmp_path / "p")
    pairs(tmp_path / "pairs")
    with pytest.raises(DataError, match="holds pictures, the task glioma takes volumes"):
        dataset("glioma", tmp_path / "pairs", tmp_path / "p")


def test_slices_in_nnunets_form_are_of_the_ct_task_too(tmp_path):
    nnunet_pictures(tmp_path, labels={"background": 0, "liver": 1})
    found = dataset("abdomen", tmp_path, tmp_path / "b" / "phantom", organ_map="curvas")
    for case, item in cases_of(found).items():
        np.testing.assert_array_equal(pixels(item["label"]) == 3, drawn(int(case[-3:])))
        assert item["annotated"] == [True, False, False, True]


def test_a_list_of_cases_in_dataset_json_is_not_needed(tmp_path):
    msd(tmp_path)
    write_json(tmp_path / "dataset.json", {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}})
    assert check_folder(tmp_path).cases == 4


def test_folders_of_pairs_are_patients_or_not_and_that_is_told(tmp_path):
    for finding, count in (("benign", 8), ("malignant", 6)):
        for k in range(count):
            picture(tmp_path / f"busi/{finding}/{finding} ({k}).png", k + len(finding))
            mask(tmp_path / f"busi/{finding}/{finding} ({k})_mask.png", k)
    report = check_folder(tmp_path / "busi")
    assert report.patients == 14 and any("benign, malignant are not taken for patients" in note for note in report.notes)
    for k in range(6):
        picture(tmp_path / f"one/images/{k}.jpg", k)
        mask(tmp_path / f"one/images/{k}_seg.png", k)
    assert check_folder(tmp_path / "one").patients == 6


def test_words_of_the_brats_challenges(tmp_path):
    brain(tmp_path, {"background": 0, "ED": 1, "NCR": 2, "ET": 3})
    items = cases_of(dataset("glioma", tmp_path, tmp_path / "p")).values()
    assert all(tuple(item["label_values"]) == (0, 2, 1, 3) for item in items)


def test_a_dataset_json_that_lists_files_of_any_folders(tmp_path):
    for k in range(4):
        scan(tmp_path / f"scans/{k}.nii.gz", k)
        volume(tmp_path / f"truth/{k}_liver.nii.gz", organ(k))
    training = [{"image": f"scans/{k}.nii.gz", "label": f"truth/{k}_liver.nii.gz"} for k in range(4)]
    write_json(
        tmp_path / "dataset.json", {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": training}
    )
    report = check_folder(tmp_path)
    assert report.cases == 4 and not report.problems and "dataset.json lists the cases" in str(report)


def test_an_unknown_folder_is_told_how_to_say_it(tmp_path):
    for k in range(3):
        scan(tmp_path / f"Training/img/img{k:04}.nii.gz", k)
        volume(tmp_path / f"Training/label/label{k:04}.nii.gz", organ(k))
    (tmp_path / "Training" / "loop").symlink_to(tmp_path)
    with pytest.raises(DataError) as caught:
        check_folder(tmp_path)
    said = str(caught.value)
    assert "--images 'Training/img/img{case}.nii.gz' --masks 'Training/label/label{case}.nii.gz'" in said
    assert "3 in Training/img (img0000.nii.gz, ...)" in said and "totalsegmentator has folders with ct.nii.gz" in said
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.webp").touch()
    with pytest.raises(DataError, match=r"(?s)it holds no picture .* but 1 .webp; convert them"):
        check_folder(tmp_path / "other")
    with pytest.raises(DataError, match="there is no list .*cases.csv"):
        check_folder(tmp_path / "cases.csv")


@pytest.mark.parametrize("image", ["{section}/images/{case}.png", "images/{section}/{case}.png"])
def test_patients_of_a_table_that_official_sections_part_are_refused(tmp_path, image):
    sections(tmp_path, parts=(("train", 6), ("test", 6)), image=image, drawing=image.replace("images", "masks"))
    names = sorted(cases_of(dataset("skin", tmp_path, tmp_path / "p")))
    rows = [f"{name},p{number % 6}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,patient", *rows]) + "\n")
    told = "in more than one section: 'p0' is in test and in train; keep a patient on one side, or write a split.csv"
    assert any(told in problem for problem in check_folder(tmp_path).problems)
    with pytest.raises(DataError, match=re.escape(told)):
        dataset("skin", tmp_path, tmp_path / "p")
    assert len(dataset("skin", tmp_path, tmp_path / "p", test_only=True)["test"]) == 12
    table = ["case,section", *(f"{name},{'test' if number % 6 < 2 else 'train'}" for number, name in enumerate(names))]
    (tmp_path / "split.csv").write_text("\n".join(table) + "\n")
    assert len(dataset("skin", tmp_path, tmp_path / "p")["test"]) == 4, "the remedy"


@pytest.mark.parametrize("suffix", ["_mask", "_seg", "-mask", "_Segmentation", "_lesion"])
def test_masks_of_a_plain_folder_may_have_any_usual_suffix(tmp_path, suffix):
    for k in range(12):
        picture(tmp_path / f"images/{k}.jpg", k)
        mask(tmp_path / f"masks/{k}{suffix}.png", k)
    found = cases_of(dataset("skin", tmp_path))
    assert len(found) == 12 and all(pair["label"].endswith(f"{case}{suffix}.png") for case, pair in found.items())
    assert check_folder(tmp_path).cases == 12


@pytest.mark.parametrize("drawing", ["masks/{}.jpg", "masks/{}.gif", "masks/mask_{}.png"])
def test_what_is_said_of_masks_that_are_not_found_is_right(tmp_path, drawing):
    for k in range(12):
        picture(tmp_path / f"images/{k:02}.png", k)
        mask(tmp_path / drawing.format(f"{k:02}"), k)
    (problem,) = check_folder(tmp_path).problems
    told = re.search(r"by patterns .*: --images '(.*?)' --masks '(.*?)'(?:.* --values (\S+))?", problem)
    report = check_folder(tmp_path, images=told[1], masks=told[2], values=told[3])
    assert report.cases == 12 and not report.problems


def test_folders_are_found_in_any_capitals(tmp_path):
    for number, (image, drawing) in enumerate(
        [("IMAGES", "MASKS"), ("Image", "Mask"), ("Original", "Ground Truth"), ("Img", "labels")]
    ):
        for k in range(5):
            picture(tmp_path / f"{number}/{image}/{k}.png", k)
            mask(tmp_path / f"{number}/{drawing}/{k}.png", k)
        report = check_folder(tmp_path / str(number))
        assert report.cases == 5 and not report.problems and f"the folders {image} and {drawing}" in report.recognised


@pytest.mark.parametrize(
    ("part", "place"), [(("P1", "P2", "P3", "P4"), "{patient}"), (("train", "test", "val", "dev"), "{section}")]
)
def test_what_is_suggested_of_folders_below_fits_all(tmp_path, part, place):
    for k in range(12):
        picture(tmp_path / f"scans/{part[k % 4]}/{k}.png", k)
        mask(tmp_path / f"masks/{part[k % 4]}/{k}.png", k)
    with pytest.raises(DataError) as caught:
        check_folder(tmp_path)
    images, masks = f"scans/{place}/{{case}}.png", f"masks/{place}/{{case}}.png"
    assert f"--images {images!r} --masks {masks!r}" in str(caught.value)
    report = check_folder(tmp_path, images=images, masks=masks)
    assert report.cases == 12 and not report.problems and report.patients == (4 if place == "{patient}" else 12)


@pytest.mark.parametrize("place", ["", "set"])
def test_tables_count_beside_the_files_and_in_the_folder_that_was_given(tmp_path, place):
    for k in range(12):
        picture(tmp_path / f"in/set/image/{k:02}.png", k)
        mask(tmp_path / f"in/set/mask/{k:02}.png", k)
    patients = {f"{k:02}": f"p{k // 3}" for k in range(12)}
    (tmp_path / "in" / place / "labels.csv").write_text("image,patient\n" + "".join(f"{c},{p}\n" for c, p in patients.items()))
    found = cases_of(dataset("skin", tmp_path / "in", tmp_path / "p"))
    assert {case: pair["patient"] for case, pair in found.items()} == patients and check_folder(tmp_path / "in").patients == 4
    (tmp_path / "in" / place / "split.csv").write_text("case,section\n" + "".join(f"{case},test\n" for case in patients))
    assert len(dataset("skin", tmp_path / "in", tmp_path / "p")["test"]) == 12


def test_diagnoses_are_kept_wherever_the_images_lie(tmp_path):
    for k in range(12):
        picture(tmp_path / f"set/image/{k}.png", k)
        mask(tmp_path / f"set/mask/{k}.png", k)
    words = {str(k): "glaucoma" if k % 3 else "normal" for k in range(12)}
    table = ["image,diagnosis,patient", *(f"{case},{word},p{case}" for case, word in words.items())]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(table) + "\n")
    found = dataset("fundus", tmp_path / "set", tmp_path / "p")
    assert {case: pair["diagnosis"] for case, pair in cases_of(found).items()} == words
    assert all({pair["diagnosis"] for pair in pairs} == {"normal", "glaucoma"} for pairs in found.values())
    told = dataset("fundus", tmp_path / "set", tmp_path / "p", images="image/{case}.png", masks="mask/{case}.png")
    assert told == found and check_folder(tmp_path / "set", task="fundus").diagnoses == {"glaucoma": 8, "normal": 4}
    prepare(tmp_path / "set", tmp_path / "out", task="fundus")
    again = cases_of(dataset("fundus", tmp_path / "out"))
    assert {case: (pair["diagnosis"], pair["patient"]) for case, pair in again.items()} == {
        c: (w, f"p{c}") for c, w in words.items()
    }
    assert all("diagnosis" not in pair for pair in cases_of(dataset("skin", tmp_path / "set", tmp_path / "p")).values())


def test_class_numbers_that_nothing_names_are_no_error_about_a_lesion(tmp_path):
    for k in range(6):
        picture(tmp_path / f"images/{k}.png", k, grey=True)
        mask(tmp_path / f"masks/{k}.png", k, value=1 + k % 3)
    (problem,) = check_folder(tmp_path).problems
    assert "the masks hold the class numbers 0, 1, 2, 3, and nothing tells of what; say what it is by --task" in problem
    assert not check_folder(tmp_path, task="abdomen").problems
