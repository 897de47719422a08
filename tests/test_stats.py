from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_records import frame, study

from monai_advdef import stats

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@pytest.fixture(scope="module")
def dice() -> pd.DataFrame:
    table = study()
    return table[table["metric"] == "dice"]


def test_summary_against_numpy():
    values = np.random.default_rng(1).random(40)
    found = stats.summarize(frame(list(values))).iloc[0]
    assert (found["n"], found["patients"]) == (40, 40)
    np.testing.assert_allclose(
        found[["mean", "std", "median", "p5"]].astype(float),
        [values.mean(), values.std(ddof=0), np.median(values), np.quantile(values, 0.05)],
    )


def test_summary_of_cases_without_a_value_has_no_row():
    assert stats.summarize(frame([float("nan")] * 2)).empty


def test_interval_against_the_exact_bootstrap_distribution():
    """Four patients: all 4^4 resamples are enumerated; percentiles of the sampled bootstrap must come near theirs."""
    values, patients = np.array([0.9, 0.8, 0.1, 0.5, 0.55, 0.3]), np.array(list("aabccd"))
    means = []
    for drawn in product("abcd", repeat=4):
        means.append(np.concatenate([values[patients == name] for name in drawn]).mean())
    found = stats.bootstrap_interval(values, patients, resamples=40000)
    np.testing.assert_allclose(found, np.percentile(means, [2.5, 97.5]), atol=0.02)


def test_interval_agrees_with_scipy_where_every_case_is_a_patient():
    values = np.random.default_rng(2).beta(5, 2, 60)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=3).confidence_interval
    found = stats.bootstrap_interval(values, np.arange(60).astype(str), resamples=20000)
    np.testing.assert_allclose(found, theirs, atol=0.003)


def test_interval_needs_two_patients_and_follows_its_seed():
    assert np.isnan(stats.bootstrap_interval(np.array([0.1, 0.2]), np.array(["a", "a"]))).all()
    values, names = np.random.default_rng(0).random(9), np.array(list("abcdefghi"))
    assert stats.bootstrap_interval(values, names, seed=1) == stats.bootstrap_interval(values, names, seed=1)
    assert stats.bootstrap_interval(values, names, seed=1) != stats.bootstrap_interval(values, names, seed=2)


@settings(deadline=None, max_examples=25)
@given(SCORES, st.randoms(use_true_random=False))
def test_summary_does_not_depend_on_the_order_of_rows_and_keeps_its_bounds(values, random):
    rows = frame(values)
    order = list(range(len(rows)))
    random.shuffle(order)
    found = stats.summarize(rows, resamples=200).iloc[0]
    pd.testing.assert_series_equal(stats.summarize(rows.iloc[order], resamples=200).iloc[0], found)
    slack = 1e-12
    assert min(values) - slack <= found["ci_low"] <= found["ci_high"] <= max(values) + slack
    assert min(values) - slack <= found["p5"] <= found["median"] + slack <= max(values) + 2 * slack


def test_classes_and_seeds_are_averaged_within_the_case_before_counting():
    rows = pd.concat([frame([0.8, 0.6], **{"class": name, "seed": seed}) for name in ("liver", "spleen") for seed in (0, 1)])
    rows.loc[(rows["class"] == "spleen") & (rows["case"] == "c001"), "value"] = np.nan
    rows.loc[(rows["class"] == "spleen") & (rows["case"] == "c000"), "value"] = 0.4
    cases = stats.per_case(rows)
    np.testing.assert_allclose(cases["value"], [0.6, 0.6])
    assert stats.summarize(rows, ["class"])["n"].tolist() == [2, 1]


def test_mixed_groups_and_contradictions_are_refused():
    both = pd.concat([frame([0.8]), frame([0.2], attack="PGD", eps=8.0)])
    with pytest.raises(ValueError, match=r"rows differ in 'attack' \(\['PGD', 'none'\]\); select one or name it"):
        stats.summarize(both)
    with pytest.raises(ValueError, match="two different results for .*'c000'.*out of date"):
        stats.per_case(pd.concat([frame([0.8]), frame([0.7], fingerprint="def")]))
    assert stats.per_case(pd.concat([frame([0.8]), frame([0.8], fingerprint="def")]))["value"].tolist() == [0.8]


@pytest.mark.parametrize(("n", "ties", "method"), [(12, False, "exact"), (12, True, "asymptotic"), (40, False, "asymptotic")])
def test_comparison_against_scipy(n, ties, method):
    rng = np.random.default_rng(n)
    a, b = rng.random(n), rng.random(n) * 0.9
    if ties:
        a, b = a.round(1), b.round(1)
    found = stats.compare(frame(list(a)), frame(list(b)))
    difference = np.round(a - b, 12)
    theirs = scipy.stats.wilcoxon(difference[difference != 0], method=method)
    assert found.method == method
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.ci_low < found.difference < found.ci_high


def test_exact_p_by_enumeration():
    a, b = [0.9, 0.8, 0.7, 0.65, 0.2], [0.5, 0.7, 0.71, 0.45, 0.23]
    d = np.array(a) - np.array(b)
    ranks = np.argsort(np.argsort(np.abs(d))) + 1
    sums = np.array([sum(r for r, up in zip(ranks, signs) if up) for signs in product([0, 1], repeat=5)])
    observed = ranks[d > 0].sum()
    two_sided = min(1.0, 2 * min((sums >= observed).mean(), (sums <= observed).mean()))
    assert stats.compare(frame(a), frame(b)).p == pytest.approx(two_sided)


def test_equal_scores_give_p_of_one():
    found = stats.compare(frame([0.5, 0.6]), frame([0.5, 0.6]))
    assert (found.p, found.method, found.difference) == (1.0, "all differences are zero", 0.0)


@settings(deadline=None, max_examples=25)
@given(SCORES.flatmap(lambda a: st.tuples(st.just(a), st.lists(st.floats(0, 1), min_size=len(a), max_size=len(a)))))
def test_comparison_is_antisymmetric(pair):
    there, back = (stats.compare(frame(x), frame(y), resamples=100) for x, y in (pair, pair[::-1]))
    assert there.difference == pytest.approx(-back.difference)
    assert there.ci_low == pytest.approx(-back.ci_high)
    assert there.p == pytest.approx(back.p) and 0 <= there.p <= 1


def test_cases_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="only one of them has c7, c9"):
        stats.compare(frame({"c1": 0.5, "c7": 0.5}), frame({"c1": 0.5, "c9": 0.4}))


def test_holm_by_hand():
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(stats.holm([0.6, np.nan, 0.7]), [1.0, np.nan, 1.0])
    assert stats.holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_holm_properties(pvalues, random):
    adjusted = stats.holm(pvalues)
    assert (adjusted >= pvalues).all() and (adjusted <= 1).all()
    assert adjusted.min() == pytest.approx(min(1.0, min(pvalues) * len(pvalues)))
    order = list(range(len(pvalues)))
    random.shuffle(order)
    np.testing.assert_array_equal(stats.holm([pvalues[i] for i in order]), adjusted[order])
    bonferroni = np.minimum(1, np.array(pvalues) * len(pvalues))
    assert (adjusted <= bonferroni + 1e-15).all()


def test_family_compares_each_cell_with_its_partners_and_corrects_per_question(dice):
    table = stats.compare_family(dice, resamples=100)
    cells = len(dice.drop_duplicates(list(stats.CELL)))
    assert (table["against"] == "clean").sum() == cells - 4
    assert (table["against"] == "undefended").sum() == len(dice[dice["defense"] != "none"].drop_duplicates(list(stats.CELL)))
    one = table[(table["attack"] == "PGD") & (table["eps"] == 8) & (table["defense"] == "FR(30,5,80)") & table["adaptive"]]
    pgd = dice[(dice["attack"] == "PGD") & (dice["eps"] == 8)]
    defended = pgd[(pgd["defense"] == "FR(30,5,80)") & pgd["adaptive"]].set_index("case")["value"]
    bare = pgd[pgd["defense"] == "none"].set_index("case")["value"]
    expected = scipy.stats.wilcoxon(defended - bare, method="exact").pvalue
    assert one.set_index("against")["p"]["undefended"] == pytest.approx(expected)
    assert one.set_index("against")["difference"]["undefended"] == pytest.approx((defended - bare).mean())
    for _, group in table.groupby("against"):
        np.testing.assert_allclose(group["p_holm"], stats.holm(group["p"]))


def test_family_leaves_out_what_has_no_partner():
    table = stats.compare_family(frame([0.2, 0.3], attack="PGD", eps=8.0, defense="FR"))
    assert len(table) == 0 and "p_holm" in table


def test_worst_case_is_over_attacks_first_and_cases_second():
    rows = pd.concat([frame([0.1, 0.9], attack="FGSM", eps=8.0), frame([0.8, 0.2], attack="PGD", eps=8.0, steps=10)])
    worst = stats.worst_case(rows)
    assert worst["value"].tolist() == [0.1, 0.2] and worst["worst_attack"].tolist() == ["FGSM", "PGD"]
    assert stats.summarize(worst)["mean"].item() == pytest.approx(0.15)


def test_worst_case_wants_every_attack_on_every_case():
    rows = pd.concat([frame([0.1, 0.9], attack="FGSM", eps=8.0), frame([0.8], attack="PGD", eps=8.0)])
    with pytest.raises(ValueError, match=r"not every attack of \['FGSM', 'PGD'\] has the cases c001"):
        stats.worst_case(rows)


@settings(deadline=None, max_examples=25)
@given(st.lists(SCORES.map(lambda v: (v * 12)[:4]), min_size=1, max_size=4))
def test_worst_case_against_a_plain_minimum(attacks):
    rows = pd.concat([frame(values, attack=f"a{i}", eps=8.0) for i, values in enumerate(attacks)])
    np.testing.assert_array_equal(stats.worst_case(rows)["value"], np.min(attacks, axis=0))
    pd.testing.assert_frame_equal(stats.worst_case(rows.iloc[::-1]), stats.worst_case(rows))


def test_groups_are_independent_of_each_other(dice):
    by = list(stats.CELL)
    pgd = dice[(dice["attack"] == "PGD")]
    together = stats.summarize(pgd, by, resamples=200)
    alone = stats.summarize(pgd[(pgd["eps"] == 8) & (pgd["defense"] == "none")], by, resamples=200)
    found = together[(together["eps"] == 8) & (together["defense"] == "none")].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, alone)


def test_signed_rank_against_scipy_and_pairs_counted_by_hand():
    rng = np.random.default_rng(4)
    a, b = rng.random(9), rng.random(9) * 0.7
    found = stats.signed_rank(frame(list(a)), frame(list(b)))
    reference = scipy.stats.wilcoxon(a, b)
    assert found.n == 9 and found.p == pytest.approx(reference.pvalue) and found.method == "exact"
    assert found.median == pytest.approx(np.median(a - b)) and found.ci_low <= found.median <= found.ci_high
    ranks = scipy.stats.rankdata(np.abs(a - b))
    favourable, against = ranks[a > b].sum(), ranks[a < b].sum()
    assert found.effect == pytest.approx((favourable - against) / (favourable + against))
    assert found.least_p == pytest.approx(2 / 2**9)


def test_signed_rank_reaches_its_least_p_where_all_differences_agree():
    a = np.arange(1, 6) / 10
    found = stats.signed_rank(frame(list(a)), frame([0.0] * 5))
    assert found.p == found.least_p == 2 / 2**5 and found.effect == 1.0
    opposite = stats.signed_rank(frame([0.0] * 5), frame(list(a)))
    assert opposite.effect == -1.0 and opposite.median == -found.median and opposite.p == found.p


def test_signed_rank_leaves_out_undefined_scores_and_says_when_nothing_is_left():
    nan = float("nan")
    found = stats.signed_rank(frame([0.5, nan, 0.9]), frame([0.4, 0.2, 0.8]))
    assert found.n == 2 and found.least_p == 0.5
    empty = stats.signed_rank(frame([nan]), frame([0.1]))
    assert (empty.n, empty.p, empty.method) == (0, 1.0, "no patient has both scores") and np.isnan(empty.median)


# -- large tables


def test_a_table_that_is_grouped_piece_by_piece_says_the_same(monkeypatch):
    rows = study(cases=7, classes=("left", "right"))
    dice = rows[rows["metric"] == "dice"]
    attacked = dice[(dice["attack"] != "none") & (dice["eps"] == 8)]

    def told():
        return [
            stats.per_case(dice, [*stats.CELL]),
            stats.summarize(stats.attacked(dice), stats.CELL),
            stats.compare_family(dice),
            stats.worst_case(attacked, ["defense"]),
            stats.headline(attacked),
        ]

    whole = told()
    monkeypatch.setattr("monai_advdef.stats.cases.PIECE", 5)
    for one, other in zip(whole, told()):
        pd.testing.assert_frame_equal(one, other)


def test_an_interval_does_not_depend_on_what_is_kept_of_the_last(monkeypatch):
    values, patients = np.arange(60.0) ** 1.7, np.arange(60) // 2
    kept = [stats.bootstrap_interval(values, patients, seed=s) for s in (0, 1, 0)]
    monkeypatch.setattr("monai_advdef.stats.cases.KEPT", 0)
    assert kept == [stats.bootstrap_interval(values, patients, seed=s) for s in (0, 1, 0)] and kept[0] != kept[1]
