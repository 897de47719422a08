"""Miniatures of the distributed data sets: recognised, checked, converted; and each way of being broken."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from miniatures import DRISHTI, MAKERS, SIZE, drawing, drishti, isic, picture, rim_one_r3, sheet
from PIL import Image

from monai_advdef.data import DataError, check_folder, dataset, prepare
from monai_advdef.data.layouts.core import LAYOUTS, recognise

TASKS = {"isic2018": "skin", "isbi2016": "skin"}
CASES = {"isic2018": 7, "isbi2016": 34, "drishti_gs1": 30, "rim_one_dl": 12, "rim_one_r3": 32}


def pixels(path):
    with Image.open(path) as file:
        return np.asarray(file)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", MAKERS)
def test_recognised_checked_and_converted(tmp_path, name):
    MAKERS[name](tmp_path / "source")
    assert recognise(tmp_path / "source") is LAYOUTS[name]
    report = check_folder(tmp_path / "source")
    assert report.cases == CASES[name] and not report.problems and sum(report.sections.values()) == CASES[name]
    assert any("complete set has" in note for note in report.notes) and LAYOUTS[name].title in str(report)
    converted = prepare(tmp_path / "source", tmp_path / "out")
    assert (converted.cases, converted.diagnoses, converted.sizes) == (report.cases, report.diagnoses, report.sizes)
    found = dataset(TASKS.get(name, "fundus"), tmp_path / "out")
    pairs = [pair for section in found.values() for pair in section]
    assert len(pairs) == CASES[name] == len(table(tmp_path / "out" / "split.csv"))
    assert all({"cup", "diagnosis"} <= pair.keys() for pair in pairs) == (name not in TASKS)
    assert not check_folder(tmp_path / "out").problems
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "no partial folder is left"
    direct = dataset(TASKS.get(name, "fundus"), tmp_path / "source", tmp_path / "bundle" / "phantom")
    for section, there in found.items():
        assert [pair["case"] for pair in there] == sorted(pair["case"] for pair in direct[section])
    where = {pair["case"]: pair for section in direct.values() for pair in section}
    for pair in pairs:
        for key in ("image", "label", "cup"):
            if key in pair:
                np.testing.assert_array_equal(pixels(Path(pair[key])) > 0, pixels(Path(where[pair["case"]][key])) > 0)


def test_isic_keeps_its_sections_and_its_files(tmp_path):
    isic(tmp_path / "source")
    prepare(tmp_path / "source", tmp_path / "out")
    found = dataset("skin", tmp_path / "out")
    assert {section: len(pairs) for section, pairs in found.items()} == {"train": 3, "validation": 2, "test": 2}
    image = tmp_path / "source" / "ISIC2018_Task1-2_Test_Input" / "ISIC_Te0.jpg"
    assert (tmp_path / "out" / "images" / "ISIC_Te0.jpg").samefile(image), "linked, not copied"
    assert (tmp_path / "out" / "masks" / "ISIC_Te0.png").stat().st_nlink == 2


def test_isbi_keeps_its_test_part(tmp_path):
    MAKERS["isbi2016"](tmp_path / "source")
    prepare(tmp_path / "source", tmp_path / "out")
    found = dataset("skin", tmp_path / "out")
    assert [pair["case"] for pair in found["test"]] == [f"ISIC_Te{i}" for i in range(4)]
    assert len(found["train"]) + len(found["validation"]) == 30 and 0 < len(found["validation"]) < 12
    (tmp_path / "source/ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_Te1_Segmentation.png").unlink()
    (problem,) = check_folder(tmp_path / "source").problems
    assert "ISIC_Te1.jpg has no mask" in problem and "ISIC_Te1_Segmentation.png" in problem


def test_tables_beside_a_distributed_data_set_count_for_check_loader_and_prepare(tmp_path):
    folder = tmp_path / "ISIC2018_Task1-2_Training_Input"
    for k in range(12):
        picture(folder / f"i{k:02}.jpg")
        drawing(tmp_path / "ISIC2018_Task1_Training_GroundTruth" / f"i{k:02}_segmentation.png", (0, 255))
    (tmp_path / "labels.csv").write_text("image,patient\n" + "".join(f"i{k:02},p{k // 3}\n" for k in range(12)))

    def split(root):
        found = dataset("skin", root, tmp_path / "bundle" / "phantom")
        return {pair["case"]: (section, pair["patient"]) for section, pairs in found.items() for pair in pairs}

    loaded = split(tmp_path)
    assert {case: patient for case, (_, patient) in loaded.items()} == {f"i{k:02}": f"p{k // 3}" for k in range(12)}
    assert len(set(loaded.values())) == 4, "each patient in one section"
    assert check_folder(tmp_path).patients == 4
    prepare(tmp_path, tmp_path / "out")
    assert split(tmp_path / "out") == loaded
    (tmp_path / "split.csv").write_text("case,section\n" + "".join(f"i{k:02},{'test' if k < 6 else 'train'}\n" for k in range(12)))
    prepare(tmp_path, tmp_path / "again")
    assert split(tmp_path / "again") == split(tmp_path) != loaded


def test_isic_leaves_pictures_of_superpixels_aside(tmp_path):
    isic(tmp_path / "source")
    whole = check_folder(tmp_path / "source")
    for image in sorted((tmp_path / "source").rglob("*.jpg")):
        picture(image.with_name(f"{image.stem}_superpixels.png"))
    report = check_folder(tmp_path / "source")
    assert report.cases == whole.cases and not report.problems and "pictures of superpixels in" in str(report)


def test_isic_training_part_alone_and_folders_doubled(tmp_path):
    isic(tmp_path)
    for part in ("Validation", "Test"):
        shutil.rmtree(tmp_path / f"ISIC2018_Task1-2_{part}_Input")
    outer = tmp_path / "ISIC2018_Task1-2_Training_Input"
    (outer / outer.name).mkdir()
    for image in outer.glob("*.jpg"):
        image.rename(outer / outer.name / image.name)
    report = check_folder(tmp_path)
    assert report.cases == 3 and not report.problems
    assert sum("no ISIC2018_Task1-2_" in note for note in report.notes) == 2
    assert "the complete set has 2594 train images, here are 3" in str(report)


@pytest.mark.parametrize(("levels", "classes"), [((0, 64, 128, 191, 255), False), ((0, 63, 127, 191, 255), True)])
def test_drishti_soft_maps_count_two_of_four_experts(tmp_path, levels, classes):
    drishti(tmp_path / "source", levels=levels, classes=classes)
    prepare(tmp_path / "source", tmp_path / "out", layout="drishti_gs1")
    soft = np.resize(np.array(levels), (16, 24))
    mask = pixels(tmp_path / "out" / "masks" / "drishtiGS_007.png")
    np.testing.assert_array_equal(mask > 0, soft > 100)
    assert set(np.unique(mask)) == {0, 255}
    found = dataset("fundus", tmp_path / "out")
    assert {pair["case"] for pair in found["test"]} == set(DRISHTI[20:]), "the official test part"
    assert {pair["diagnosis"] for pair in found["validation"]} == {"normal", "glaucoma"}
    for pairs in found.values():
        assert all(pair["diagnosis"] == ("glaucoma" if DRISHTI.index(pair["case"]) % 3 else "normal") for pair in pairs)


def test_drishti_maps_a_little_smaller_than_the_image_are_stretched(tmp_path):
    drishti(tmp_path)
    home = tmp_path / "Drishti-GS1_files" / "Drishti-GS1_files"
    picture(home / "Training/Images/drishtiGS_000.png", (303, 202))
    for kind in ("OD", "cup"):
        drawing(home / f"Training/GT/drishtiGS_000/SoftMap/drishtiGS_000_{kind}segSoftmap.png", (0, 255), (301, 201))
    report = check_folder(tmp_path)
    assert not report.problems and any("1 cases differ in size" in note for note in report.notes)


def test_rim_one_r3_takes_the_view_with_the_masks(tmp_path):
    rim_one_r3(tmp_path / "source")
    report = prepare(tmp_path / "source", tmp_path / "out")
    assert report.sizes == Counter({(12, 16): 32})
    for case, left in (("N-3-L", 0), ("N-3-R", 12)):
        stereo = pixels(tmp_path / "source/RIM-ONE r3/Healthy/Stereo Images" / f"{case}.jpg")
        np.testing.assert_array_equal(pixels(tmp_path / "out/images" / f"{case}.png"), stereo[:, left : left + 12])
        mask = pixels(tmp_path / "out/masks" / f"{case}.png")
        assert mask.shape == (16, 12) and (mask[5:12, 2:10] == 255).all() and not mask[4].any()
    section_of = {}
    for row in table(tmp_path / "out" / "split.csv"):
        assert section_of.setdefault(row["patient"], row["section"]) == row["section"], "both eyes of a patient on one side"
    assert len(section_of) == 16
    for pairs in dataset("fundus", tmp_path / "out").values():
        assert {pair["diagnosis"] for pair in pairs} == {"normal", "glaucoma"}


INNER = "Drishti-GS1_files/Drishti-GS1_files"
SOFT = f"{INNER}/Training/GT/drishtiGS_004/SoftMap/drishtiGS_004"
R3 = "RIM-ONE r3/Healthy"
BROKEN = {
    "isic: no mask": (
        "isic2018",
        lambda r: (r / "ISIC2018_Task1_Test_GroundTruth/ISIC_Te1_segmentation.png").unlink(),
        r"ISIC_Te1\.jpg has no mask .*ISIC_Te1_segmentation\.png; unpack",
    ),
    "isic: no ground truth": (
        "isic2018",
        lambda r: shutil.rmtree(r / "ISIC2018_Task1_Test_GroundTruth"),
        r"Test_Input has no ground truth beside it; unpack ISIC2018_Task1_Test_GroundTruth into",
    ),
    "isic: grey mask": (
        "isic2018",
        lambda r: drawing(r / "ISIC2018_Task1_Test_GroundTruth/ISIC_Te1_segmentation.png", (0, 7, 255)),
        r"ISIC_Te1_segmentation\.png holds the grey levels \[7\]; a mask of ISIC 2018 task 1 holds 0, 255 only",
    ),
    "isic: size": (
        "isic2018",
        lambda r: drawing(r / "ISIC2018_Task1_Test_GroundTruth/ISIC_Te1_segmentation.png", (0, 255), (16, 24)),
        r"is 16x24 pixels and .*ISIC_Te1\.jpg is 24x16; they do not belong together",
    ),
    "isic: damaged": (
        "isic2018",
        lambda r: (r / "ISIC2018_Task1-2_Test_Input/ISIC_Te1.jpg").write_bytes(b"\xff\xd8no"),
        r"ISIC_Te1\.jpg cannot be read as an image",
    ),
    "drishti: levels": (
        "drishti_gs1",
        lambda r: drawing(r / f"{SOFT}_ODsegSoftmap.png", (0, 50, 100, 255)),
        r"drishtiGS_004_ODsegSoftmap\.png holds the grey levels \[50, 100\]; a mask of Drishti-GS1 holds 0, 63, 64",
    ),
    "drishti: no cup map": (
        "drishti_gs1",
        lambda r: (r / f"{SOFT}_cupsegSoftmap.png").unlink(),
        r"drishtiGS_004\.png has no mask .*_cupsegSoftmap\.png",
    ),
    "drishti: no truth of a part": (
        "drishti_gs1",
        lambda r: shutil.rmtree(r / INNER / "Test" / "Test_GT"),
        r"Test has no folder GT or Test_GT",
    ),
    "drishti: no spreadsheet": (
        "drishti_gs1",
        lambda r: (r / "Drishti-GS1_files/Drishti-GS1_diagnosis.xlsx").write_text("not a zip"),
        r"Drishti-GS1_diagnosis\.xlsx cannot be read as a spreadsheet",
    ),
    "drishti: other spreadsheet": (
        "drishti_gs1",
        lambda r: sheet(r / "Drishti-GS1_files/Drishti-GS1_diagnosis.xlsx", [["a", "b"]]),
        r"has no row with the column names 'Drishti-GS File' and 'Total'",
    ),
    "drishti: odd word": (
        "drishti_gs1",
        lambda r: sheet(
            r / "Drishti-GS1_files/Drishti-GS1_diagnosis.xlsx", [["Drishti-GS File", "Total"], ["drishtiGS_000", "maybe"]]
        ),
        r"drishtiGS_000 has the diagnosis 'maybe'; known: Normal, Glaucomatous",
    ),
    "drishti: an image left out": (
        "drishti_gs1",
        lambda r: sheet(
            r / "Drishti-GS1_files/Drishti-GS1_diagnosis.xlsx", [["Drishti-GS File", "Total"], ["drishtiGS_000", "Normal"]]
        ),
        r"29 of 30 images have no diagnosis \(drishtiGS_001, .*complete Drishti-GS1_diagnosis\.xlsx",
    ),
    "rim one dl: no segmentations": (
        "rim_one_dl",
        lambda r: shutil.rmtree(r / "RIM-ONE_DL_reference_segmentations"),
        r"no RIM-ONE_DL_reference_segmentations .* an archive of their own: unpack it there",
    ),
    "rim one dl: no test set": (
        "rim_one_dl",
        lambda r: shutil.rmtree(r / "RIM-ONE_DL_images/partitioned_by_hospital/test_set"),
        r"partitioned_by_hospital has no folder test_set",
    ),
    "rim one r3: both halves": (
        "rim_one_r3",
        lambda r: drawing(r / R3 / "Average_masks/N-2-L-Disc-Avg.png", (0, 255)),
        r"N-2-L-Disc-Avg\.png lies on both halves of the stereo picture",
    ),
    "rim one r3: empty": (
        "rim_one_r3",
        lambda r: drawing(r / R3 / "Average_masks/N-2-L-Disc-Avg.png", (0,)),
        r"N-2-L-Disc-Avg\.png is empty",
    ),
    "rim one r3: no masks": (
        "rim_one_r3",
        lambda r: shutil.rmtree(r / R3 / "Average_masks"),
        r"Healthy has no folder 'Average_masks'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_a_problem_and_stops_the_conversion(tmp_path, name):
    layout, spoil, message = BROKEN[name]
    MAKERS[layout](tmp_path / "source")
    spoil(tmp_path / "source")
    report = check_folder(tmp_path / "source", layout=layout)
    assert len(report.problems) >= 1
    with pytest.raises(DataError, match=message):
        raise DataError("\n".join(report.problems))
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "source", tmp_path / "out", layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing half done is left"


def test_folders_that_are_none_of_these(tmp_path):
    picture(tmp_path / "stuff" / "a.png")
    with pytest.raises(
        DataError, match=r"does not look like any of isic2018, .*\(it holds: stuff\): isic2018 has a folder ISIC2018"
    ):
        prepare(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"does not look like Drishti-GS1 .*: drishti_gs1 has Training/Images"):
        check_folder(tmp_path, layout="drishti_gs1")
    with pytest.raises(DataError, match="is not a folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="no layout 'isic'; did you mean 'isic2018'"):
        prepare(tmp_path, tmp_path / "out", layout="isic")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        prepare(tmp_path, tmp_path / "stuff")


def test_a_plain_folder_is_checked_too(tmp_path):
    for name in "abcdefghijklmnopqrstuvwxyz":
        picture(tmp_path / "images" / f"{name}.jpg")
        drawing(tmp_path / "masks" / f"{name}.png", (0, 255))
    report = check_folder(tmp_path)
    assert report.cases == 26 == sum(report.sections.values()) and not report.problems and report.sizes == Counter({SIZE: 26})
    (tmp_path / "masks" / "c.png").unlink()
    assert "have no mask" in check_folder(tmp_path, layout="plain").problems[0]
