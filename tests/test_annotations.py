"""Cups and diagnoses: found, checked, and in every section."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_pairs import SECTIONS, drawing, made_up, picture

from monai_advdef.data import DataError, dataset, require_diagnoses, split_pairs, write_skin_phantoms
from monai_advdef.data.datasets import data_set_pairs

REAL_DISCS = SHARED / "fundus"


def disc(path, radius, size=(24, 16)):
    y, x = np.mgrid[: size[1], : size[0]]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(np.hypot(x - 12, y - 8) < radius, np.uint8(255), np.uint8(0))).save(path)


@pytest.fixture
def eyes(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.jpg")
        disc(tmp_path / "masks" / f"{name}.png", 7)
        disc(tmp_path / "masks_cup" / f"{name}.png", 4)
    (tmp_path / "labels.csv").write_text("image,diagnosis,age\na.jpg,normal,50\nc,glaucoma,70\nb.jpg, glaucoma,\n")
    return tmp_path


def test_cups_and_diagnoses_where_there_are(eyes):
    pairs = data_set_pairs("fundus", eyes)
    assert [pair["diagnosis"] for pair in pairs] == ["normal", "glaucoma", "glaucoma"]
    assert pairs[1]["cup"] == str(eyes / "masks_cup" / "b.png") and pairs[1]["case"] == "b"
    assert all("cup" not in pair for pair in data_set_pairs("fundus", eyes, cups=False))
    assert all(pair.keys() == {"image", "label", "case", "patient"} for pair in data_set_pairs("skin", eyes))
    shutil.rmtree(eyes / "masks_cup")
    (eyes / "labels.csv").write_text("image,age\na,50\n")
    assert all(pair.keys() == {"image", "label", "case", "patient"} for pair in data_set_pairs("fundus", eyes))
    with pytest.raises(ValueError, match="no task 'fundos'; did you mean 'fundus'"):
        dataset("fundos", eyes)


def test_patients_where_there_are_for_every_task(eyes):
    (eyes / "labels.csv").write_text("image,patient,diagnosis\na.jpg,p1,normal\nc,p1,glaucoma\nb.jpg, p2,glaucoma\n")
    for task in ("skin", "fundus"):
        assert [pair["patient"] for pair in data_set_pairs(task, eyes)] == ["p1", "p2", "p1"]
    (eyes / "split.csv").write_text("case,section\na,train\nb,validation\nc,test\n")
    with pytest.raises(DataError, match=r"split\.csv, line 4: patient 'p1' is in train and in test"):
        dataset("skin", eyes)


BAD_PATIENTS = {
    "unknown image": ("image,patient\na,p\nb,p\nc,p\nd.jpg,q\n", r"labels\.csv, line 5: no image is called 'd\.jpg'; did you mean"),
    "left out": ("image,patient\na,p\nb,p\n", r"labels\.csv leaves out 1 images \(c\.jpg\); give each a patient"),
    "twice": ("image,patient\na,p\na.jpg,p\n", r"line 3: the image 'a\.jpg' stands there twice"),
    "empty": ("image,patient\na,p\nb,\nc,q\n", r"line 3: the patient is empty; name one, or remove the column patient"),
    "no image column": ("number,patient\n", r"it needs image,patient"),
}


@pytest.mark.parametrize("name", BAD_PATIENTS)
def test_bad_patients_are_named(eyes, name):
    text, message = BAD_PATIENTS[name]
    (eyes / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        dataset("skin", eyes)


LABELS = "image,diagnosis\na,normal\nb,glaucoma\n"


def relabel(text):
    return lambda root: (root / "labels.csv").write_text(text)


BAD_EYES = {
    "no cup": (lambda r: (r / "masks_cup/b.png").unlink(), r"1 of 3 cases have no cup mask in .*masks_cup: b\.png; .*cups=False"),
    "grey cup": (lambda r: drawing(r / "masks_cup/b.png", (0, 9)), r"masks_cup/b\.png holds the values \[0, 9\]; .* 0 and 255"),
    "grey disc": (lambda r: drawing(r / "masks/b.png", (0, 9)), r"masks/b\.png holds the values \[0, 9\]"),
    "cup size": (lambda r: disc(r / "masks_cup/b.png", 4, (16, 24)), r"b\.jpg is 24x16 .* mask .*masks_cup/b\.png is 16x24"),
    "unknown image": (relabel(LABELS + "cc.jpg,normal\n"), r"labels\.csv, line 4: no image is called 'cc\.jpg'; did you mean 'c"),
    "unknown word": (relabel(LABELS + "c,Glaucom\n"), r"line 4: no diagnosis 'Glaucom'; did you mean 'glaucoma'"),
    "twice": (relabel(LABELS + "b.jpg,normal\n"), r"line 4: the image 'b\.jpg' stands there twice"),
    "left out": (relabel(LABELS), r"labels\.csv leaves out 1 images \(c\.jpg\); give each a diagnosis"),
    "no image column": (relabel("number,diagnosis\n"), r"has the columns \['number', 'diagnosis'\]; it needs image,diagnosis"),
}


@pytest.mark.parametrize("name", BAD_EYES)
def test_bad_cups_and_labels_are_named(eyes, name):
    spoil, message = BAD_EYES[name]
    spoil(eyes)
    with pytest.raises(DataError, match=message):
        dataset("fundus", eyes)


def test_a_cup_outside_its_disc_is_a_warning(eyes, recwarn):
    (eyes / "labels.csv").unlink()
    disc(eyes / "masks_cup" / "b.png", 7)
    data_set_pairs("fundus", eyes)
    assert not recwarn.list
    disc(eyes / "masks_cup" / "c.png", 8)
    with pytest.warns(UserWarning, match=r"1 of 3 cup masks reach out of their disc mask; worst: .*c\.png with 2\d %"):
        assert len(data_set_pairs("fundus", eyes)) == 3


def diagnosed(normal, glaucoma):
    pairs = made_up([f"n{i}" for i in range(normal)] + [f"g{i}" for i in range(glaucoma)])
    return [{**pair, "diagnosis": "normal" if pair["case"][0] == "n" else "glaucoma"} for pair in pairs]


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_with_diagnoses_every_section_has_each_in_its_share(normal, glaucoma, seed):
    pairs = diagnosed(normal, glaucoma)
    found = {section: split_pairs(pairs, section, seed=seed) for section in SECTIONS}
    assert sorted(pair["case"] for section in found.values() for pair in section) == sorted(pair["case"] for pair in pairs)
    for section, share in zip(SECTIONS, (0.6125, 0.0875, 0.30)):
        require_diagnoses(found[section], section)
        for word, count in (("normal", normal), ("glaucoma", glaucoma)):
            assert abs(sum(pair["diagnosis"] == word for pair in found[section]) - share * count) <= 1.5
    assert found == {section: split_pairs(pairs[::-1], section, seed=seed)[::-1] for section in SECTIONS}, "order does not matter"


def test_a_share_of_nothing_stays_empty():
    pairs = diagnosed(8, 8)
    assert len(split_pairs(pairs, "train", fractions=(0.875, 0.125, 0.0))) == 14
    with pytest.raises(DataError, match="section 'test' .* is empty"):
        split_pairs(pairs, "test", fractions=(0.875, 0.125, 0.0))


def test_a_diagnosis_absent_from_a_section():
    require_diagnoses(diagnosed(1, 1), "train")
    with pytest.raises(
        DataError, match=r"no case of the section 'test' \(3 cases\) has the diagnosis 'glaucoma'; add .* split\.csv"
    ):
        require_diagnoses(diagnosed(3, 0), "test")
    with pytest.raises(DataError, match=r"2 of 2 cases of the section 'train' have no diagnosis \(a, b\); write a labels\.csv"):
        require_diagnoses(made_up("ab"), "train")


@pytest.mark.realdata
@pytest.mark.skipif(not REAL_DISCS.is_dir(), reason="the real fundus photographs are not beside the checkout")
def test_real_discs_have_both_diagnoses_in_every_section():
    found = dataset("fundus", REAL_DISCS)
    assert sum(len(pairs) for pairs in found.values()) == 68
    for section, pairs in found.items():
        require_diagnoses(pairs, section)
        assert all("cup" in pair for pair in pairs)


def test_a_data_set_for_testing_only_is_not_split(tmp_path):
    write_skin_phantoms(tmp_path, cases=3, sizes=((64, 64),))
    found = dataset("skin", tmp_path, test_only=True)
    assert [p["case"] for p in found["test"]] == [f"phantom_{i:04d}" for i in range(3)] and not found["train"] + found["validation"]
