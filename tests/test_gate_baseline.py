"""Not worse than an earlier model: by the interval of paired differences, on the same data, under the same attack."""

from __future__ import annotations

import re

import numpy as np
import pytest
from audit_records import scores, write_audit

from monai_advdef import stats
from monai_advdef.errors import DataError
from monai_advdef.gates import check_margin, evaluate_baseline

COUNT = 12


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return write_audit(tmp_path_factory.mktemp("old"), scores(0.9, 0.6, cases=COUNT), weights="w0")


def changed(folder, difference, noise=0.0, **options):
    """A new audit whose Dice under attack is another one; clean it is the same."""
    made = scores(0.9, 0.6, cases=COUNT)
    made["worst"] = made["worst"] + difference + np.random.default_rng(5).normal(0, noise, made["worst"].shape)
    return write_audit(folder, made, **{"weights": "w1", **options}), made


@pytest.mark.parametrize(
    ("difference", "passed"), [(0.05, True), (0.0, True), (-0.01, True), (-0.019, True), (-0.021, False), (-0.1, False)]
)
def test_a_constant_change_against_the_margin(tmp_path, old, difference, passed):
    """The interval of a constant is the constant itself."""
    folder, _ = changed(tmp_path, difference)
    attacked, clean = evaluate_baseline(folder, old, margin=0.02)
    assert attacked.passed is passed and attacked.value == pytest.approx(difference, abs=1e-9)
    assert attacked.name == "baseline: dice, standard (worst case), 5 HU" and attacked.kind == "baseline"
    assert clean.passed and clean.value == 0 and "the same on every image" in clean.reason


def test_the_lower_end_of_the_interval_decides_and_not_the_mean(tmp_path, old):
    folder, made = changed(tmp_path, 0.005, noise=0.06)
    found = evaluate_baseline(folder, old, margin=0.02)[0]
    before = scores(0.9, 0.6, cases=COUNT)["worst"].mean(1)
    differences = made["worst"].mean(1) - before
    low, high = stats.bootstrap_interval(differences, np.arange(COUNT))
    assert found.value == pytest.approx(differences.mean()) and found.interval == pytest.approx((low, high))
    assert -0.02 < found.value and low < -0.02 and not found.passed and "is not ruled out" in found.reason
    assert evaluate_baseline(folder, old, margin=-low + 1e-6)[0].passed


def test_patients_are_drawn_and_not_images(tmp_path, old):
    clustered = write_audit(tmp_path / "old", scores(0.9, 0.6, cases=COUNT), weights="w0", per_patient=6)
    folder, _ = changed(tmp_path / "new", 0.0, noise=0.02, per_patient=6)
    found = evaluate_baseline(folder, clustered)[0]
    assert (found.n, found.patients) == (COUNT, 2)
    one = write_audit(tmp_path / "one", scores(0.9, 0.6, cases=COUNT), per_patient=COUNT)
    new, _ = changed(tmp_path / "new one", 0.01, noise=0.001, per_patient=COUNT)
    found = evaluate_baseline(new, one)[0]
    assert not found.passed and "one patient has no interval" in found.reason


def test_the_class_that_lost_most_is_named(tmp_path, old):
    made = scores(0.9, 0.6, cases=COUNT)
    made["worst"] = made["worst"] + [0.03, -0.04]
    found = evaluate_baseline(write_audit(tmp_path, made), old)[0]
    assert found.passed and "of the classes spleen has changed for the worst, by −.040" in found.reason


def test_cases_of_one_side_are_told_and_the_others_paired(tmp_path, old):
    made = {key: value[:8] for key, value in scores(0.9, 0.6, cases=COUNT).items()}
    found = evaluate_baseline(write_audit(tmp_path, made, data="data2"), old)
    assert all(f.passed and f.n == 8 for f in found)
    assert "4 cases of the baseline left out, for not all sides have them: c008, c009, c010, c011" in found[0].reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": "other"}, "same names but are not loaded the same .*audit the baseline's model anew"),
        ({"unit": "sigma"}, "no attack of one size, unit and norm is on all sides.*\n.*standard \\(worst case\\), 5 σ"),
        ({"eps": 3.0}, "no attack of one size"),
        ({"digest": "d2"}, "suites of this name are different ones \\(d1, d2\\)"),
        ({"suite": "smoke"}, "no attack of one size"),
        ({"classes": ("lung", "heart")}, "no class is on all sides.*lung"),
        ({"names": [f"x{i}" for i in range(COUNT)]}, "no case is on all sides"),
        ({"per_patient": 2}, "do not agree which cases are of one patient"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(tmp_path, old, options, told):
    folder, _ = changed(tmp_path, 0.0, **options)
    (found,) = evaluate_baseline(folder, old)
    assert not found.passed and found.value is None and re.search(told, found.reason, re.DOTALL), found.reason


def test_a_doubt_on_either_side_fails(tmp_path, old):
    doubt = [{"name": "masking", "verdict": "suspect", "evidence": "zero gradients"}]
    new, _ = changed(tmp_path / "new", 0.05, checks=doubt)
    attacked, clean = evaluate_baseline(new, old)
    assert not attacked.passed and "check masking of this audit: suspect, zero gradients" in attacked.reason and clean.passed
    assert not evaluate_baseline(old, new)[0].passed


def test_a_value_that_is_lost_fails(tmp_path, old):
    made = scores(0.9, 0.6, cases=COUNT)
    made["worst"][3, 1] = np.nan
    found = evaluate_baseline(write_audit(tmp_path, made), old)[0]
    assert not found.passed and "1 pair of case and class that the baseline has a value of have none here" in found.reason


def test_records_that_are_none(tmp_path, old):
    with pytest.raises(DataError, match="there are no records in .*nowhere; give the output folder"):
        evaluate_baseline(old, tmp_path / "nowhere")
    assert evaluate_baseline(old / "records", old)[0].passed
    for margin in (-0.1, 1, 2.0, True, "x"):
        with pytest.raises(DataError, match="--margin must be"):
            check_margin(margin)  # type: ignore[arg-type]
    assert check_margin(0) == 0.0


def test_without_labels_stability_is_compared(tmp_path, old):
    values = {"clean": np.ones((COUNT, 2)), "worst": scores(0.9, 0.6, cases=COUNT)["worst"]}
    for name in ("new", "old"):
        write_audit(tmp_path / name, values, reference="own prediction", weights=name)
    (found,) = evaluate_baseline(tmp_path / "new", tmp_path / "old")
    assert found.passed and found.name == "baseline: stability, standard (worst case), 5 HU"
    (found,) = evaluate_baseline(tmp_path / "new", old)
    assert not found.passed and "this audit scored against own prediction, the baseline against labels" in found.reason
