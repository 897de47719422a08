"""Promise 27: patient-clustered intervals, paired tests, Holm's correction over the family."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from monai_advdef.stats import compare, compare_family, holm, summarize


def rows(values: np.ndarray, patients: list[str], **cell: object) -> pd.DataFrame:
    clean = {"attack": "none", "eps": 0.0, "unit": "", "norm": "", "steps": 0, "restarts": 0, "defense": "none", "adaptive": False}
    base = {
        "case": [f"c{i:03d}" for i in range(len(values))],
        "patient": patients,
        "class": "lesion",
        "metric": "dice",
        "value": values,
    }
    return pd.DataFrame({**base, **clean, "seed": 0, **cell})


def test_four_images_of_each_patient_do_not_count_as_four_patients():
    rng = np.random.default_rng(0)
    once = rng.beta(6, 2, 20)
    names = [f"p{i:02d}" for i in range(20)]
    single = summarize(rows(once, names)).iloc[0]
    repeated = summarize(rows(np.repeat(once, 4), list(np.repeat(names, 4)))).iloc[0]
    pretended = summarize(rows(np.repeat(once, 4), [f"q{i}" for i in range(80)])).iloc[0]
    assert (repeated["n"], repeated["patients"]) == (80, 20)
    assert repeated[["mean", "ci_low", "ci_high"]].tolist() == pytest.approx(single[["mean", "ci_low", "ci_high"]].tolist())
    assert pretended["ci_high"] - pretended["ci_low"] < 0.7 * (repeated["ci_high"] - repeated["ci_low"])


def test_the_clustered_interval_covers_the_truth_where_images_of_a_patient_resemble_each_other():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        values = (0.6 + rng.normal(0, 0.1, 30)[:, None] + rng.normal(0, 0.02, (30, 5))).ravel()
        found = summarize(rows(values, [f"p{i // 5}" for i in range(150)]), resamples=300, seed=trial).iloc[0]
        covered += found["ci_low"] <= 0.6 <= found["ci_high"]
    assert 0.88 <= covered / 200 <= 0.99


def test_the_paired_test_counts_each_patient_once():
    rng = np.random.default_rng(2)
    before, names = rng.random(40), [f"p{i // 2:02d}" for i in range(40)]
    after = before - rng.normal(0.05, 0.1, 40)
    found = compare(rows(after, names), rows(before, names))
    per_patient = (after - before).reshape(20, 2).mean(1)
    assert (found.n, found.patients, found.method) == (40, 20, "exact")
    assert found.p == pytest.approx(scipy.stats.wilcoxon(per_patient, method="exact").pvalue)
    assert found.difference == pytest.approx((after - before).mean())


def test_pairing_finds_a_small_steady_loss_that_unpaired_scores_hide():
    base = np.random.default_rng(3).random(20)
    names = [f"p{i}" for i in range(20)]
    found = compare(rows(base - 0.01 - 0.001 * base, names), rows(base, names))
    assert found.p < 1e-4 and found.ci_high < 0
    assert scipy.stats.mannwhitneyu(base - 0.01, base).pvalue > 0.5


def test_every_cell_is_tested_against_clean_and_undefended_and_corrected_over_the_family():
    rng = np.random.default_rng(4)
    names = [f"p{i}" for i in range(15)]
    base = 0.9 - 0.1 * rng.random(15)
    attack = {"attack": "PGD", "eps": 8.0, "unit": "grey level", "norm": "linf", "steps": 10}
    table = pd.concat([
        rows(base, names),
        rows(base - 0.001 * rng.random(15), names, defense="JPEG"),
        rows(base - 0.6 - 0.1 * rng.random(15), names, **attack),
        rows(base - 0.2 - 0.1 * rng.random(15), names, defense="JPEG", **attack),
        rows(base - 0.6 + 0.3 * rng.normal(size=15), names, defense="JPEG", adaptive=True, **attack),
    ])  # fmt: skip
    found = compare_family(table, resamples=200)
    assert sorted(found["against"]) == ["clean"] * 3 + ["undefended"] * 3
    for _, group in found.groupby("against"):
        assert group["p_holm"].to_numpy() == pytest.approx(holm(group["p"]))
    bare = found[found["against"] == "undefended"].set_index(["attack", "adaptive"])["difference"]
    assert bare["PGD", False] > 0.3 and bare["none", False] < 0
