"""Statistics of a diagnosis against scipy, closed forms and second implementations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from monai_advdef.diagnostic_stats import auc, diagnosis_table, sensitivity, specificity, wilson_interval, youden_threshold

CASES = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda cases: 0 < sum(truth for _, truth in cases) < len(cases)
)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
@settings(deadline=None)
def test_wilson_is_scipys(case, confidence):
    k, n = case
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(k, n, confidence=confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_closed_form_and_edges():
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 10) == pytest.approx((0.0, z2 / (10 + z2)))
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))
    with pytest.raises(ValueError, match="successes must lie in 0..n, got 4 of 3"):
        wilson_interval(4, 3)


def test_sensitivity_and_specificity_count_the_right_cases():
    decision, truth = [1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]
    assert sensitivity(decision, truth) == (2 / 3, *wilson_interval(2, 3), 3)
    assert specificity(decision, truth) == (3 / 4, *wilson_interval(3, 4), 4)
    assert math.isnan(sensitivity([0, 1], [0, 0]).value) and sensitivity([0, 1], [0, 0]).n == 0
    with pytest.raises(ValueError, match="one truth of 0 or 1 per case"):
        sensitivity([0, 1], [0, 2])


@given(CASES)
@settings(deadline=None)
def test_auc_is_mann_whitneys_u(cases):
    score, truth = np.array(cases, dtype=float).T
    u = mannwhitneyu(score[truth == 1], score[truth == 0]).statistic
    assert auc(score, truth).value == pytest.approx(u / (truth == 1).sum() / (truth == 0).sum())


@given(CASES.filter(lambda cases: 2 <= sum(truth for _, truth in cases) <= len(cases) - 2))
@settings(deadline=None)
def test_auc_interval_is_delongs(cases):
    """DeLong's variance from its structural components, by loops over pairs."""
    positive, negative = [s for s, t in cases if t], [s for s, t in cases if not t]
    psi = np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive])
    variance = np.var(psi.mean(1), ddof=1) / len(positive) + np.var(psi.mean(0), ddof=1) / len(negative)
    half = 1.959963984540054 * math.sqrt(variance)
    found = auc(*zip(*cases))
    assert found.ci_low == pytest.approx(max(0.0, psi.mean() - half), abs=1e-9)
    assert found.ci_high == pytest.approx(min(1.0, psi.mean() + half), abs=1e-9)


def test_auc_interval_covers_the_true_area():
    """Scores N(0, 1) and N(1, 1): the area is Phi(1 / sqrt 2) = 0.7602."""
    g = np.random.default_rng(0)
    truth = np.repeat([1, 0], [40, 30])
    found = [auc(np.concatenate([g.normal(1, 1, 40), g.normal(0, 1, 30)]), truth) for _ in range(400)]
    assert np.mean([f.value for f in found]) == pytest.approx(0.7602, abs=0.01)
    assert 0.91 < np.mean([f.ci_low <= 0.7602 <= f.ci_high for f in found]) < 0.98
    assert all(math.isnan(v) for v in auc([1.0, 2.0], [1, 1])[:3])


@given(CASES.filter(lambda cases: len({score for score, _ in cases}) > 1))
@settings(deadline=None)
def test_no_threshold_is_better_than_youdens(cases):
    score, truth = np.array(cases, dtype=float).T

    def youden(threshold):
        return sensitivity(score >= threshold, truth).value + specificity(score >= threshold, truth).value

    chosen = youden_threshold(score, truth)
    assert all(youden(chosen) >= youden(t) - 1e-12 for t in np.unique(score)[1:]) and chosen not in score


def test_youden_needs_two_classes_and_two_scores():
    assert youden_threshold([0.2, 0.4, 0.6, 0.9], [0, 0, 1, 1]) == pytest.approx(0.5)
    for score, truth in (([1, 2], [1, 1]), ([1, 1], [0, 1])):
        with pytest.raises(ValueError, match="cases of both classes and two different scores"):
            youden_threshold(score, truth)


def records():
    """Two defences with three cases each; behind "jpeg" the normal case is called glaucoma."""
    rows = []
    for defense, ratios, shift in (("none", [0.8, 0.7, 0.3], 4.0), ("jpeg", [0.8, 0.5, 0.7], 1.0)):
        for i, ratio in enumerate(ratios):
            metrics = {"truth": float(i < 2), "cup_disc_ratio": ratio, "positive_cup_disc_ratio": float(ratio >= 0.6)}
            metrics |= {"crop_shift_px": shift * i, "disc_found": float(i > 0), "dice": 0.5}
            rows += [{"defense": defense, "case": f"c{i}", "metric": m, "value": v} for m, v in metrics.items()]
    return pd.DataFrame(rows)


def test_diagnosis_table_from_records():
    table = diagnosis_table(records()).set_index("defense")
    assert table.loc["none", ["n", "sensitivity", "specificity", "auc"]].tolist() == [3, 1, 1, 1]
    assert table.loc["jpeg", ["sensitivity", "specificity", "auc"]].tolist() == [0.5, 0, 0.5]
    assert tuple(table.loc["jpeg", ["sensitivity_low", "sensitivity_high"]]) == pytest.approx(wilson_interval(1, 2))
    assert table["crop_shift_px"].to_dict() == {"none": 4.0, "jpeg": 1.0} and table["disc_found"].tolist() == pytest.approx(
        [2 / 3] * 2
    )
    shuffled = diagnosis_table(records().sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled.set_index("defense"), table)


def test_diagnosis_table_refuses_mixed_and_missing_rows():
    with pytest.raises(ValueError, match="'c0' occurs more than once.*name them in `by`"):
        diagnosis_table(records(), by=[])
    with pytest.raises(ValueError, match="hold no positive_probability, probability; evaluate with the bundle's diagnosis.yaml"):
        diagnosis_table(records(), reading="probability")
