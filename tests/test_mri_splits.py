"""Cross-validation and splits of MRI subjects; checking a folder."""

from __future__ import annotations

import warnings
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mri_files import GLIOMA, REAL, data_set, loading

from monai_advdef.data import (
    DataError,
    dataset,
    fold_pairs,
    split_pairs,
)

PATIENTS = st.dictionaries(st.text("abcdefgh123", min_size=1, max_size=6), st.sampled_from(["high", "low"]), min_size=4, max_size=40)


@pytest.fixture
def root(tmp_path):
    return data_set(tmp_path / "set")


def made_up(grades):
    """Two cases of every patient whose name has an even length, one of the others."""
    visits = [(name, visit) for name in grades for visit in range(2 - len(name) % 2)]
    return [{"image": f"x/{n}{v}/t1", "case": f"{n}-{v}", "patient": n, "grade": grades[n]} for n, v in visits]


@given(PATIENTS, st.integers(2, 8), st.integers(0, 3), st.floats(0.05, 0.95), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_in_cross_validation_every_patient_is_tested_once(grades, folds, seed, share, random):
    pairs = made_up(grades)
    folds = min(folds, len(grades))
    tested, high = Counter(), []
    for fold in range(folds):
        sections = fold_pairs(pairs, folds=folds, fold=fold, validation=share, seed=seed)
        patients = {section: {pair["patient"] for pair in found} for section, found in sections.items()}
        assert sum(map(len, patients.values())) == len(grades) and set().union(*patients.values()) == set(grades)
        assert all(patients.values()) and sum(map(len, sections.values())) == len(pairs)
        tested.update(patients["test"])
        high.append((len(patients["test"]), sum(grades[name] == "high" for name in patients["test"])))
        mixed = random.sample(pairs, len(pairs))
        again = fold_pairs(mixed, folds=folds, fold=fold, validation=share, seed=seed)
        assert {k: {pair["case"] for pair in v} for k, v in again.items()} == {
            k: {pair["case"] for pair in v} for k, v in sections.items()
        }
    assert set(tested.values()) == {1}
    assert all(max(counts) - min(counts) <= 1 for counts in zip(*high))


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"folds": 1, "fold": 0}, ValueError, "fold 0 of 1"),
        ({"folds": 3, "fold": 3}, ValueError, "fold 3 of 3"),
        ({"folds": 3, "fold": 0, "validation": 1.0}, ValueError, "validation must be"),
        ({"folds": 9, "fold": 0}, DataError, "5 patients are too few for 9 folds"),
    ],
)
def test_folds_that_cannot_be(options, error, told):
    with pytest.raises(error, match=told):
        fold_pairs(made_up(dict.fromkeys("aceg1", "high")), **options)


def test_the_split_holds_every_grade_in_every_section():
    pairs = made_up({f"p{number}": "low" if number % 4 == 0 else "high" for number in range(40)})
    for section, count in (("train", 28), ("validation", 4), ("test", 8)):
        grades = Counter({pair["patient"]: pair["grade"] for pair in split_pairs(pairs, section, fractions=GLIOMA.split)}.values())
        assert grades == {"high": count * 3 // 4, "low": count // 4}


def test_a_split_file_stands_against_folds(root):
    (root / "split.csv").write_text("case,section\na,train\nb,validation\nc,test\nd,test\n", encoding="utf-8")
    found = dataset("glioma", root)
    assert {k: [item["case"] for item in v] for k, v in found.items()} == {"train": ["a"], "validation": ["b"], "test": ["c", "d"]}
    with pytest.raises(DataError, match="remove it for cross-validation"):
        dataset("glioma", root, folds=2)
    (root / "split.csv").unlink()
    assert sum(len(section) for section in dataset("glioma", root, folds=4, fold=1).values()) == 4


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="the real subjects are not beside the checkout")
def test_real_subjects():
    with pytest.warns(UserWarning, match="Brats18_2013_20_1/flair.nii.gz .flair. covers 67 %") as warned:
        everything = dataset("glioma", REAL, test_only=True)["test"]
    assert len(everything) == 13 and len([w for w in warned if "covers" in str(w.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tested = [item["case"] for fold in range(5) for item in dataset("glioma", REAL, folds=5, fold=fold, voxels=False)["test"]]
    assert sorted(tested) == sorted(item["case"] for item in everything)
    data = loading()(everything[0])
    seg = nib.load(everything[0]["label"])
    assert data["image"].shape == (4, 120, 120, 77) and np.allclose(data["image"].affine, seg.affine)
    stored, counts = np.unique(np.asarray(seg.dataobj), return_counts=True)
    assert torch.bincount(data["label"].long().flatten()).tolist() == counts.tolist() and stored.tolist() == [0, 1, 2, 4]
