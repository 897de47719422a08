"""JSRT and the lung task: raw files, SCR masks and folds, patients, finer masks; and each way of being broken."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections import Counter, defaultdict
from functools import partial

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_pairs import drawing, picture

from monai_advdef.data import DataError, check_folder, dataset, find_task, prepare
from monai_advdef.data.datasets import data_set_pairs
from monai_advdef.data.layouts.core import LAYOUTS, recognise
from monai_advdef.data.layouts.jsrt import read_raw

REAL_CHEST = SHARED / "chest"
SIZE = 32
CASES = [*(f"JPCLN{i:03d}" for i in range(1, 25)), *(f"JPCNN{i:03d}" for i in range(1, 7))]
LEFT, RIGHT, HEART = "left lung", "right lung", "heart"


def pixels(path):
    with Image.open(path) as file:
        return np.asarray(file)


def gif(path, top, left, height, width):
    """A rectangle of 255 as a GIF, half the size of the raw file."""
    mask = np.zeros((SIZE // 2, SIZE // 2), dtype=np.uint8)
    mask[top : top + height, left : left + width] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Thirty radiographs of 32 x 32 raw pixels and their masks; the heart overlaps the left lung."""
    small = dataclasses.replace(LAYOUTS["jsrt"], image_pixels=partial(read_raw, size=SIZE))
    monkeypatch.setitem(LAYOUTS, "jsrt", small)
    root = tmp_path / "source"
    (root / "All247images").mkdir(parents=True)
    for seed, case in enumerate(CASES):
        values = np.random.default_rng(seed).integers(0, 4096, (SIZE, SIZE))
        (root / "All247images" / f"{case}.IMG").write_bytes(values.astype(">u2").tobytes())
        masks = root / "scratch" / ("fold1" if int(case[-3:]) % 2 else "fold2") / "masks"
        gif(masks / RIGHT / f"{case}.gif", 3, 2, 10, 4)
        gif(masks / LEFT / f"{case}.gif", 3, 9, 10, 5)
        gif(masks / HEART / f"{case}.gif", 8, 6, 5, 6)
        gif(masks / "left clavicle" / f"{case}.gif", 1, 9, 2, 5)
    return root


@given(st.lists(st.integers(0, 4095), min_size=64, max_size=64))
@settings(deadline=None, max_examples=30)
def test_raw_files_are_inverted_halved_and_scaled_as_pillow_does(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("raw") / "JPCLN001.IMG"
    path.write_bytes(b"".join(value.to_bytes(2, "big") for value in values))
    grey = read_raw(path, size=8)
    raw = Image.fromarray(np.array(values, dtype=np.float32).reshape(8, 8))
    expected = 255 - np.asarray(raw.resize((4, 4), Image.Resampling.BOX), dtype=np.float64) / 4095 * 255
    assert grey.dtype == np.uint8 and grey.shape == (4, 4)
    assert np.abs(grey - expected).max() <= 0.5 + 1e-3


def test_raw_files_of_the_distributed_size(tmp_path):
    path = tmp_path / "JPCNN001.IMG"
    path.write_bytes(b"\x0f\xff" * 2048 * 1024 + b"\x00\x00" * 2048 * 1024)
    grey = read_raw(path)
    assert path.stat().st_size == 8_388_608 and grey.shape == (1024, 1024)
    assert not grey[:512].any() and (grey[512:] == 255).all(), "4095 is black film"


def test_converted_with_both_kinds_of_masks_and_the_folds(source, tmp_path):
    assert recognise(source) is LAYOUTS["jsrt"]
    report = check_folder(source)
    assert report.cases == 30 and not report.problems and report.sections == Counter(train=15, test=15)
    assert "the complete set has 124 train images, here are 15" in str(report)
    converted = prepare(source, tmp_path / "out")
    assert (converted.cases, converted.sizes) == (30, Counter({(16, 16): 30}))
    found = dataset("lung", tmp_path / "out")
    assert {pair["case"] for pair in found["test"]} == {case for case in CASES if int(case[-3:]) % 2 == 0}
    assert len(found["train"]) + len(found["validation"]) == 15 and found["validation"]
    raw = source / "All247images" / "JPCLN003.IMG"
    np.testing.assert_array_equal(pixels(tmp_path / "out/images/JPCLN003.png"), read_raw(raw, size=SIZE))
    multi = pixels(tmp_path / "out/masks_multi/JPCLN003.png")
    assert multi[4, 10] == 1 and multi[4, 3] == 2 and multi[9, 7] == 3 and multi[4, 7] == 0 and multi[1, 10] == 0
    assert multi[9, 10] == 1, "the lung is painted over the heart"
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks/JPCLN003.png"), np.where(np.isin(multi, (1, 2)), 255, 0))
    finer = dataset("lung", tmp_path / "out", multi=True)
    assert {name: len(pairs) for name, pairs in finer.items()} == {name: len(pairs) for name, pairs in found.items()}
    plain = check_folder(tmp_path / "out")
    assert "task lung" in plain.title and plain.cases == 30 and not plain.problems
    direct = dataset("lung", source, tmp_path / "bundle" / "phantom", multi=True)
    assert {name: len(pairs) for name, pairs in direct.items()} == {name: len(pairs) for name, pairs in found.items()}
    (pair,) = [pair for pair in direct["train"] + direct["validation"] if pair["case"] == "JPCLN003"]
    np.testing.assert_array_equal(pixels(pair["image"]), read_raw(raw, size=SIZE))
    np.testing.assert_array_equal(pixels(pair["label"]), multi)


def test_without_hearts_there_are_no_finer_masks(source, tmp_path):
    for fold in ("fold1", "fold2"):
        shutil.rmtree(source / "scratch" / fold / "masks" / HEART)
    assert "note: no folder heart in" in str(prepare(source, tmp_path / "out"))
    assert not (tmp_path / "out/masks_multi").exists() and not check_folder(tmp_path / "out", task="lung").problems


RAW, FOLD1, FOLD2 = "All247images/JPCLN003.IMG", "scratch/fold1/masks", "scratch/fold2/masks"
BROKEN = {
    "short": (
        lambda r: (r / RAW).write_bytes(b"\0" * 100),
        r"JPCLN003\.IMG has 100 bytes; a raw radiograph of 32x32 pixels has 2048, without header: fetch it again",
    ),
    "byte order": (
        lambda r: (r / RAW).write_bytes(b"\xff\x0f" * SIZE**2),
        r"JPCLN003\.IMG holds the value 65295, above 4095 .*swap its bytes",
    ),
    "no masks": (
        lambda r: [(r / FOLD1 / name / "JPCLN003.gif").unlink() for name in (LEFT, RIGHT)],
        r"1 radiograph \(JPCLN003\.IMG\) without a lung mask in fold1 or fold2",
    ),
    "one lung": (lambda r: (r / FOLD1 / RIGHT / "JPCLN003.gif").unlink(), r"JPCLN003\.IMG has no mask .*right lung/JPCLN003\.gif"),
    "no heart": (lambda r: (r / FOLD1 / HEART / "JPCLN003.gif").unlink(), r"JPCLN003\.IMG has no mask .*heart/JPCLN003\.gif"),
    "fold names missing images": (
        lambda r: [(r / f"All247images/JPCLN00{i}.IMG").unlink() for i in (3, 5)],
        r"fold1 names 2 radiographs \(JPCLN003, JPCLN005\), of which there is no raw file; unpack the images",
    ),
    "two folds": (
        lambda r: shutil.copy(r / FOLD1 / LEFT / "JPCLN003.gif", r / FOLD2 / LEFT),
        r"1 radiograph \(JPCLN003\) in fold1 and in fold2",
    ),
    "no fold": (
        lambda r: shutil.rmtree(r / "scratch/fold2"),
        r"15 radiographs \(JPCLN002\.IMG, .*\.\.\.\) without a lung mask in fold1 or fold2",
    ),
    "no scr": (lambda r: shutil.rmtree(r / "scratch"), r"no fold1/masks or fold2/masks in .*source; unpack the masks of the SCR"),
    "no jsrt": (lambda r: shutil.rmtree(r / "All247images"), r"no raw file such as JPCLN001\.IMG in .*source; unpack the images"),
    "grey mask": (
        lambda r: Image.fromarray(np.full((16, 16), 7, np.uint8)).save(r / FOLD1 / HEART / "JPCLN003.gif"),
        r"heart/JPCLN003\.gif holds the grey levels \[7\]; a mask of JSRT with the SCR masks holds 0, 255 only",
    ),
    "mask size": (
        lambda r: Image.new("L", (20, 16)).save(r / FOLD1 / RIGHT / "JPCLN003.gif"),
        r"JPCLN003\.gif is 20x16 pixels and .*JPCLN003\.IMG is 16x16",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_a_problem_and_stops_the_conversion(source, tmp_path, name):
    spoil, message = BROKEN[name]
    spoil(source)
    problems = check_folder(source).problems
    with pytest.raises(DataError, match=message):
        raise DataError("\n".join(problems))
    with pytest.raises(DataError, match=message):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- the lung task in a folder of one's own


@pytest.fixture
def chest(tmp_path):
    for case in "abcd":
        picture(tmp_path / "images" / f"{case}.png", "L")
        drawing(tmp_path / "masks" / f"{case}.png", (0, 255))
        drawing(tmp_path / "masks_multi" / f"{case}.png", (0, 1, 2, 3))
    return tmp_path


def test_finer_masks_are_asked_for_and_checked(chest):
    assert all("masks_multi" in pair["label"] for pair in data_set_pairs("lung", chest, multi=True))
    drawing(chest / "masks_multi" / "b.png", (0, 3, 4))
    assert all("masks/" in pair["label"] for pair in data_set_pairs("lung", chest))
    message = r"masks_multi/b\.png holds the values \[0, 3, 4\]; a mask holds class numbers 0\.\.3"
    with pytest.raises(DataError, match=message):
        dataset("lung", chest, multi=True)
    assert any("b.png holds the values [0, 3, 4]" in problem for problem in check_folder(chest).problems)
    with pytest.raises(ValueError, match=r"multi must be false for the task 'skin', .* than background, lesion"):
        dataset("skin", chest, multi=True)
    assert find_task("lung").multi_classes[0] == "background" and not find_task("skin").multi_classes


@pytest.mark.realdata
@pytest.mark.skipif(not REAL_CHEST.is_dir(), reason="the real chest radiographs are not beside the checkout")
def test_real_radiographs_by_patient():
    found, finer = dataset("lung", REAL_CHEST), dataset("lung", REAL_CHEST, multi=True)
    assert sum(len(pairs) for pairs in found.values()) == 70 and len(found["validation"]) >= 5 and len(found["test"]) >= 18
    with (REAL_CHEST / "labels.csv").open(newline="") as file:
        patient_of = {row["image"]: row["patient"] for row in csv.DictReader(file)}
    sides = defaultdict(set)
    for section, pairs in found.items():
        for pair, fine in zip(pairs, finer[section], strict=True):
            assert pair["image"] == fine["image"]
            sides[patient_of[f"{pair['case']}.png"]].add(section)
            np.testing.assert_array_equal(pixels(pair["label"]) == 255, np.isin(pixels(fine["label"]), (1, 2)))
    assert len(sides) < 70 and all(len(where) == 1 for where in sides.values())
