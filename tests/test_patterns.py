"""A data set told by patterns of file names: which files they fit, what is told of the others, and what masks mean."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from layout_folders import SIDE, mask, organ, picture, pixels, scan, volume, voxels
from PIL import Image

from monai_advdef.__main__ import main
from monai_advdef.data import DataError, check_folder, dataset, prepare
from monai_advdef.data.layouts.patterns import listed_by_patterns
from monai_advdef.data.sources.meaning import parse_values

IMAGES, MASKS = "photos/{case}.png", "drawn/{case}_mask.png"


def photos(root, cases=12, *, value=255):
    for k in range(cases):
        picture(root / f"photos/p{k:02}.png", k)
        mask(root / f"drawn/p{k:02}_mask.png", k, value=value)


def cases_of(found):
    return {pair["case"]: pair for pairs in found.values() for pair in pairs}


def levels(path, table):
    """A mask of bands: each level of ``table`` in three rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    for place, level in enumerate(table):
        pixels[3 * place : 3 * place + 3] = level
    pixels[3 * len(table) :] = table[0]
    Image.fromarray(pixels).save(path)
    return pixels


def test_patterns_on_the_command_line_and_in_the_loader(tmp_path, capsys):
    photos(tmp_path / "set")
    (tmp_path / "set" / "notes").mkdir()
    picture(tmp_path / "set" / "notes" / "figure.png")
    mask(tmp_path / "set" / "drawn" / "p99_mask.png")
    assert main(["check", str(tmp_path / "set"), "--images", IMAGES, "--masks", MASKS]) == 0
    out = capsys.readouterr().out
    assert f"because images {IMAGES}, masks {MASKS}" in out and "12 cases: " in out and "of 12 patients" in out
    assert "1 masks without an image are left out (drawn/p99_mask.png)" in out and "1 files fit no pattern" in out
    found = dataset("skin", tmp_path / "set", tmp_path / "p", images=IMAGES, masks=MASKS)
    assert sorted(cases_of(found)) == [f"p{k:02}" for k in range(12)]
    options = ["--task", "skin", "--images", IMAGES, "--masks", MASKS]
    assert main(["prepare", str(tmp_path / "set"), str(tmp_path / "out"), *options]) == 0
    assert len(cases_of(dataset("skin", tmp_path / "out"))) == 12


def test_everything_but_a_placeholder_means_itself(tmp_path):
    for name in ("a[1].b", "a1xb", "a+(1)", "{odd}", "ä ö"):
        picture(tmp_path / f"study[1] (x)/{name}.png")
        mask(tmp_path / f"study[1] (x)/masks/{name}.png")
    listed = listed_by_patterns(tmp_path, ["study[1] (x)/{case}.png"], ["study[1] (x)/masks/{case}.png"])
    assert sorted(row.case for row in listed.rows) == sorted(["a[1].b", "a1xb", "a+(1)", "{odd}", "ä ö"])
    assert not listed.problems
    with pytest.raises(DataError, match=r"no file in .* fits the images 'study1/\{case\}.png'"):
        listed_by_patterns(tmp_path, ["study1/{case}.png"], ["study[1] (x)/masks/{case}.png"])


def test_both_forms_of_an_accent_are_one_name(tmp_path):
    picture(tmp_path / "bilder" / unicodedata.normalize("NFD", "Läsion.png"))
    mask(tmp_path / "masken" / unicodedata.normalize("NFC", "Läsion.png"))
    listed = listed_by_patterns(tmp_path, ["bilder/{case}.png"], ["masken/{case}.png"])
    assert len(listed.rows) == 1 and not listed.problems


def test_images_and_masks_in_one_folder(tmp_path):
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
        mask(tmp_path / f"{k}_m.png", k)
    listed = listed_by_patterns(tmp_path, ["{case}.png"], ["{case}_m.png"])
    assert [row.case for row in listed.rows] == ["0", "1", "2", "3"] and not listed.problems + listed.notes


def test_patients_and_sections_in_names(tmp_path):
    for section, patients in (("Training", "abcd"), ("val", "ef"), ("TEST", "gh")):
        for patient in patients:
            for k in range(2):
                picture(tmp_path / section / patient / f"{k}.png", 2 * ord(patient) + k)
                mask(tmp_path / "gt" / section / f"{patient}_{k}.png", k)
    patterns = {"images": "{section}/{patient}/{case}.png", "masks": "gt/{section}/{patient}_{case}.png"}
    report = check_folder(tmp_path, **patterns)
    assert not report.problems and (report.cases, report.patients) == (16, 8)
    assert dict(report.sections) == {"train": 8, "validation": 4, "test": 4}
    found = dataset("skin", tmp_path, tmp_path / "p", **patterns)
    assert {pair["patient"] for pair in found["validation"]} == {"e", "f"}
    assert {pair["case"] for pair in found["validation"]} == {"e_0", "e_1", "f_0", "f_1"}, "told apart, for all are called 0 and 1"
    picture(tmp_path / "TEST" / "a" / "5.png")
    mask(tmp_path / "gt" / "TEST" / "a_5.png")
    with pytest.raises(DataError, match="1 patient .a. in more than one section: 'a' is in test and in train; keep a patient"):
        dataset("skin", tmp_path, tmp_path / "p", **patterns)
    picture(tmp_path / "holdout" / "z" / "5.png")
    assert any("'holdout' is no section (known: train, validation, test)" in p for p in check_folder(tmp_path, **patterns).problems)


def test_one_mask_is_not_taken_for_two_images(tmp_path):
    for patient in "ab":
        for k in range(3):
            picture(tmp_path / patient / f"{k}.png", 2 * ord(patient) + k)
            mask(tmp_path / "gt" / f"{k}.png", k)
    problems = check_folder(tmp_path, images="{patient}/{case}.png", masks="gt/{case}.png").problems
    assert len(problems) == 3 and "0.png fits 2 images (a/0, b/0); put what tells these apart" in problems[0]


@pytest.mark.parametrize(
    ("images", "masks", "told"),
    [
        ("photos/*.png", MASKS, r"images pattern .* has no \{case\}"),
        (IMAGES, "drawn/mask.png", r"masks pattern .* has no \{case\}"),
        ("{case}/{name}.png", MASKS, r"has \{name\}; known: \{case\}, \{patient\}, \{section\}"),
        ("../{case}.png", MASKS, "must be a path below the data set's folder"),
        ("/data/{case}.png", MASKS, "must be a path below the data set's folder"),
        (IMAGES, None, "images and masks belong together"),
        (None, MASKS, "images and masks belong together"),
        ("photo/{case}.png", MASKS, r"no file in .* fits the images .*it holds 3 in drawn .p00_mask.png, ...., 3 in photos"),
        (
            IMAGES,
            "drawn/{case}.png.gz",
            r"say which are which, such as --images 'photos/\{case\}.png' --masks 'drawn/\{case\}_mask.png'",
        ),
    ],
)
def test_patterns_that_are_none(tmp_path, capsys, images, masks, told):
    photos(tmp_path, 3)
    with pytest.raises((ValueError, DataError), match=told):
        check_folder(tmp_path, images=images, masks=masks)
    options = [*(["--images", images] if images else []), *(["--masks", masks] if masks else [])]
    assert main(["check", str(tmp_path), *options]) == 2 and "Traceback" not in capsys.readouterr().err


PROBLEMS = {
    "no mask": (lambda r: (r / "drawn/p03_mask.png").unlink(), IMAGES, MASKS, r"1 of 12 cases have no mask drawn/.* \(p03\)"),
    "two images": (
        lambda r: picture(r / "photos/p03.jpg"),
        "photos/{case}.*",
        MASKS,
        "2 images of the case 'p03' .*p03.jpg, photos/p03.png",
    ),
    "another size": (lambda r: Image.new("L", (9, 9)).save(r / "drawn/p03_mask.png"), IMAGES, MASKS, "p03_mask.png is 9x9"),
    "no picture": (lambda r: (r / "photos/p03.png").write_text("<html>"), IMAGES, MASKS, "p03.png cannot be read as an image"),
    "soft": (lambda r: mask(r / "drawn/p03_mask.png", value=200), IMAGES, MASKS, r"p03_mask.png holds the values \[0, 200\]"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_told_and_stop_the_loader(tmp_path, name):
    spoil, images, masks, told = PROBLEMS[name]
    photos(tmp_path)
    spoil(tmp_path)
    (problem,) = check_folder(tmp_path, images=images, masks=masks).problems
    with pytest.raises(DataError, match=told):
        raise DataError(problem)
    with pytest.raises(DataError, match=told):
        dataset("skin", tmp_path, tmp_path / "p", images=images, masks=masks)
    with pytest.warns(UserWarning, match="left out"):
        assert len(cases_of(dataset("skin", tmp_path, tmp_path / "p", images=images, masks=masks, skip_bad=True))) in (11, 12)


def test_values_of_disc_and_cup(tmp_path, capsys):
    """As REFUGE stores them: 255 background, 128 disc, 0 cup."""
    for k in range(12):
        picture(tmp_path / f"photos/p{k:02}.png", k)
        stored = levels(tmp_path / f"drawn/p{k:02}_mask.png", (255, 128, 0))
    patterns = {"images": IMAGES, "masks": MASKS, "values": "0=2,128=1,255=0"}
    found = dataset("fundus", tmp_path, tmp_path / "b" / "phantom", **patterns)
    for pair in cases_of(found).values():
        np.testing.assert_array_equal(pixels(pair["label"]), stored != 255)
        np.testing.assert_array_equal(pixels(pair["cup"]), stored == 0)
    for task in ([], ["--task", "fundus"]):
        options = [*task, "--images", IMAGES, "--masks", MASKS, "--values", "0=2,128=1,255=0"]
        assert main(["check", str(tmp_path), *options]) == 0, capsys.readouterr()
    report = prepare(tmp_path, tmp_path / "out", task="fundus", **patterns)
    assert report.cups == 12 and all("cup" in pair for pair in cases_of(dataset("fundus", tmp_path / "out")).values())
    (problem, *rest) = check_folder(tmp_path, **{**patterns, "values": "0=1,255=0"}).problems
    assert "holds the value 128, of which nothing is told (known: 0=1, 255=0)" in problem and len(rest) == 11


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("0=2,128=1,255=0", {0: 2, 128: 1, 255: 0}),
        ("0-2=0, 3-4=1", {0: 0, 1: 0, 2: 0, 3: 1, 4: 1}),
        ({0: 0, 255: 1}, {0: 0, 255: 1}),
        ({"0": "0", "255": "1"}, {0: 0, 255: 1}),
        (["0=0", "255=1"], {0: 0, 255: 1}),
        ("0:0,255:1", {0: 0, 255: 1}),
        (None, {}),
        ("", {}),
    ],
)
def test_values_are_read(told, found):
    assert parse_values(told) == found


@pytest.mark.parametrize("told", ["0", "0=1=2", "a=1", "0=-1", "0=1.5", ",", "0=0,0=1", "127-0=0,255=1"])
def test_values_that_are_none(told):
    with pytest.raises(ValueError, match="values"):
        parse_values(told)


def test_values_beyond_the_classes(tmp_path):
    photos(tmp_path, 3)
    with pytest.raises(ValueError, match="values names the class 3; known: 0 background, 1 lesion"):
        dataset("skin", tmp_path, images=IMAGES, masks=MASKS, values="0=0,255=3")


def test_values_of_a_plain_folder(tmp_path):
    for k in range(12):
        picture(tmp_path / f"set/images/{k}.png", k)
        levels(tmp_path / f"set/masks/{k}_segmentation.png", (0, 7, 9))
    with pytest.raises(DataError, match=r"holds the values \[0, 7, 9\]"):
        dataset("skin", tmp_path / "set")
    found = dataset("skin", tmp_path / "set", tmp_path / "p", values="0=0,7=1,9=0")
    for pair in cases_of(found).values():
        label = pixels(pair["label"])
        assert (label[3:6] == 1).all() and label.sum() == 3 * SIDE


def three(root, cases=12):
    """The two lungs and the heart, a file each; heart and left lung overlap in four columns."""
    shapes = {"left": (slice(4, 20), slice(14, 22)), "right": (slice(4, 20), slice(2, 8)), "heart": (slice(10, 18), slice(9, 18))}
    for k in range(cases):
        picture(root / f"x/{k:02}.png", k, grey=True)
        for name, where in shapes.items():
            shape = np.zeros((SIDE, SIDE), bool)
            shape[where] = True
            mask(root / name / f"{k:02}.gif", where=shape)
    return {name: np.s_[where] for name, where in shapes.items()}


def test_several_masks_are_united_or_one_a_structure(tmp_path):
    shapes = three(tmp_path / "set")
    lungs = ["left/{case}.gif", "right/{case}.gif"]
    found = dataset("lung", tmp_path / "set", tmp_path / "b" / "p", images="x/{case}.png", masks=lungs)
    for pair in cases_of(found).values():
        label = pixels(pair["label"])
        assert (label[shapes["left"]] == 1).all() and (label[shapes["right"]] == 1).all() and label.sum() == 16 * 14
    one_a_structure = {
        "in order": [*lungs, "heart/{case}.gif"],
        "by name": ["heart=heart/{case}.gif", "left lung=left/{case}.gif", "right lung=right/{case}.gif"],
        "by commas": ",".join([*lungs, "heart/{case}.gif"]),
    }
    for name, masks in one_a_structure.items():
        with pytest.warns(UserWarning, match="overlap in 12 cases, by up to 32 pixels: there the first structure counts"):
            found = dataset("lung", tmp_path / "set", tmp_path / "b" / "p", images="x/{case}.png", masks=masks, multi=True)
        label = pixels(cases_of(found)["03"]["label"])
        assert (label[shapes["right"]] == 2).all() and label[12, 10] == 3
        assert label[12, 15] == (3 if name == "by name" else 1), "where they overlap the first counts"
    with pytest.raises(ValueError, match="masks has 2 patterns, the task lung the structures left lung, right lung, heart"):
        dataset("lung", tmp_path / "set", images="x/{case}.png", masks=lungs, multi=True)
    with pytest.raises(ValueError, match="name the structure of each pattern"):
        dataset("lung", tmp_path / "set", images="x/{case}.png", masks=["heart=heart/{case}.gif", "left/{case}.gif"])
    with pytest.raises(DataError, match="names the structures liver, of which none is lungs"):
        dataset("lung", tmp_path / "set", images="x/{case}.png", masks="liver=left/{case}.gif")


def test_volumes_of_organs(tmp_path):
    for k in range(4):
        scan(tmp_path / f"set/case{k}/volume.nii.gz", k)
        volume(tmp_path / f"set/case{k}/label.nii.gz", organ(k) * 7)
        volume(tmp_path / f"set/case{k}/spleen.nii.gz", np.roll(organ(k), 4, 1))
    images = "{case}/volume.nii.gz"
    found = dataset("abdomen", tmp_path / "set", tmp_path / "b/p", images=images, masks="{case}/label.nii.gz", values="0=0,7=3")
    for case, item in cases_of(found).items():
        np.testing.assert_array_equal(voxels(item["label"]) == 5, organ(int(case[-1])))
        assert item["annotated"] == [True, False, False, True, False]
    named = ["spleen={case}/spleen.nii.gz", "liver={case}/label.nii.gz"]
    found = dataset("abdomen", tmp_path / "set", tmp_path / "b/p", images=images, masks=named)
    for case, item in cases_of(found).items():
        np.testing.assert_array_equal(voxels(item["label"]) == 1, np.roll(organ(int(case[-1])), 4, 1))
    options = ["--images", images, "--masks", "{case}/label.nii.gz", "--values", "0=0,7=3"]
    assert main(["check", str(tmp_path / "set"), *options, "--task", "abdomen"]) == 0
    assert main(["check", str(tmp_path / "set"), *options]) == 0, "values below 0 tell CT"
    assert main(["prepare", str(tmp_path / "set"), str(tmp_path / "out"), *options]) == 0
    items = cases_of(dataset("abdomen", tmp_path / "out"))
    assert len(items) == 4 and all((voxels(item["label"]) == 5).any() for item in items.values())


SERIES = ("t1", "t1ce", "t2", "flair")


def heads(root, cases=4):
    for k in range(cases):
        for place, name in enumerate(SERIES):
            scan(root / f"sub-{k}/scan_{name}.nii.gz", 10 * place + k, low=0)
        shape = np.zeros((12, 10, 8), np.uint8)
        shape[3:9, 2:8, 1:7], shape[4:8, 3:7, 2:6], shape[5:7, 4:6, 3:5] = 1, 2, 3
        volume(root / f"sub-{k}/tumour.nii.gz", shape)
        for value, name in ((1, "oedema"), (2, "core"), (3, "enhancing")):
            volume(root / f"sub-{k}/{name}.nii.gz", shape == value)


def test_four_series_of_gliomas(tmp_path):
    heads(tmp_path / "set")
    images = [f"{{case}}/scan_{name}.nii.gz" for name in SERIES]
    found = dataset(
        "glioma", tmp_path / "set", tmp_path / "p", images=images, masks="{case}/tumour.nii.gz", values="0=0,1=2,2=1,3=3"
    )
    for item in cases_of(found).values():
        assert [Path(path).name.split("_")[1] for path in item["image"]] == [f"{name}.nii.gz" for name in SERIES]
        assert tuple(item["label_values"]) == (0, 2, 1, 3)
    masks = [f"{{case}}/{name}.nii.gz" for name in ("core", "oedema", "enhancing")]
    found = dataset("glioma", tmp_path / "set", tmp_path / "b/p", images=images, masks=masks)
    for item in cases_of(found).values():
        label = voxels(item["label"])
        assert tuple(item["label_values"]) == (0, 1, 2, 4) and label[3, 2, 1] == 2 and label[4, 3, 2] == 1 and label[5, 4, 3] == 4
    with pytest.raises(
        DataError, match="1 images a case; the task glioma takes t1, t1ce, t2, flair: give --images a pattern for each"
    ):
        dataset("glioma", tmp_path / "set", images=images[:1], masks="{case}/tumour.nii.gz")
    options = ["--images", *images, "--masks", "{case}/tumour.nii.gz", "--values", "0=0,1=2,2=1,3=3"]
    assert main(["check", str(tmp_path / "set"), *options]) == 0
    prepare(tmp_path / "set", tmp_path / "out", images=images, masks="{case}/tumour.nii.gz", values="0=0,1=2,2=1,3=3")
    item = cases_of(dataset("glioma", tmp_path / "out"))["sub-1"]
    assert voxels(item["label"])[5, 4, 3] == 4 and tuple(item["label_values"]) == (0, 1, 2, 4)


def test_phantoms_have_no_patterns(tmp_path):
    with pytest.raises(ValueError, match="tell of the files of dataset_dir; give it too"):
        dataset("skin", "", tmp_path / "p", images=IMAGES, masks=MASKS)
