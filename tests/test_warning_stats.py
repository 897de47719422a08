"""Thresholds, shares and the table of warnings against counting by hand and scipy; and the card's sections made of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from monai_advdef.report.scope import Scope
from monai_advdef.report.sections import sections
from monai_advdef.warning_stats import alarm_threshold, area, share, suspicion, warnings_table


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_no_more_clean_cases_than_the_rate_raise_an_alarm_and_no_lower_threshold_would_do(scores, rate):
    threshold = alarm_threshold(scores, rate)
    assert np.mean(np.array(scores) > threshold) <= rate + 1e-9
    lower = [s for s in set(scores) if s < threshold]
    assert all(np.mean(np.array(scores) > s) > rate - 1e-9 for s in lower)


def test_thresholds_need_cases_and_a_rate():
    for scores, rate in (([], 0.05), ([1.0], 0.0), ([1.0], 1)):
        with pytest.raises(ValueError, match="a threshold needs clean cases and a rate of false alarms"):
            alarm_threshold(scores, rate)


def test_areas_are_those_of_scipy_whichever_side_is_suspicious():
    rng = np.random.default_rng(0)
    clean, attacked = rng.normal(0.9, 0.05, 30), rng.normal(0.86, 0.05, 25)
    u = mannwhitneyu(clean, attacked).statistic / (30 * 25)
    assert area("confidence", clean, attacked).value == pytest.approx(u)
    assert area("entropy", clean, attacked).value == pytest.approx(1 - u)
    assert suspicion("confidence", [math.nan, 0.5]).tolist() == [-math.inf, -0.5], "what is undefined warns of nothing"
    assert area("confidence", [0.9, 0.9], [math.nan, math.nan]).value == 0
    assert share([]).n == 0 and math.isnan(share([]).value)


ROW = {"task": "skin", "model": "unet", "patient": "p", "unit": "grey level", "norm": "linf", "defense": "none", "adaptive": False}
ROW |= {"steps": 0, "restarts": 0, "suite": "", "seed": 0, "linf": 0.0, "l2": 0.0, "forwards": 0, "backwards": 0, "seconds": 0.0}


def cell(name, attack, values):
    """Rows of one evaluation; ``values``: by case, Dice of two classes and readings of the image."""
    rows = []
    for case, (dices, readings) in enumerate(values):
        entries = [(f"c{i}", "dice", d) for i, d in enumerate(dices)] + [("image", m, v) for m, v in readings.items()]
        size = {"eps": 0.0, "unit": "", "norm": ""} if attack == "none" else {"eps": 4.0, "steps": 10}
        about = {**ROW, "attack": attack, **size, "fingerprint": name, "case": f"case_{case}", "patient": f"p{case}"}
        rows += [{**about, "class": c, "metric": m, "value": v} for c, m, v in entries]
    return rows


def reading(value, alarm, **more):
    return {"disagreement": value, "disagreement_alarm": float(alarm), "dice_goal": 0.7, "alarm_rate": 0.05, **more}


def sure(value, alarm):
    signals = {n: value for n in ("confidence", "confidence_foreground", "entropy")}
    return {**signals, **{f"{n}_alarm": float(alarm) for n in signals}, "ece": 0.1, "ece_foreground": 0.2}


CLEAN = [([0.9, 0.9], reading(0.02, 0, **sure(0.9, 0))), ([0.9, 0.4], reading(0.05, 1, **sure(0.8, 0)))] * 3
HIT = [([0.3, 0.2], reading(0.6, 1, **sure(0.9, 0))), ([0.6, 0.6], reading(0.01, 0, **sure(0.5, 1)))]
HIT += [([0.9, 0.7], reading(0.3, 1, **sure(0.9, 0)))] * 4


def test_the_table_counts_what_failed_and_what_was_caught():
    clean, attacked = warnings_table(pd.DataFrame([*cell("a", "none", CLEAN), *cell("b", "PGD", HIT)]), ["disagreement"])
    assert (clean["attack"], clean["n"], clean["failed"], attacked["failed"]) == ("none", 6, 3, 2)
    assert clean["alarms"]["disagreement"].value == 0.5 and clean["auroc"] == {}
    assert attacked["alarms"]["disagreement"][::3] == (5 / 6, 6) and attacked["caught"]["disagreement"][::3] == (0.5, 2)
    assert attacked["auroc"]["disagreement"].value == pytest.approx(5 / 6)
    assert attacked["means"]["disagreement"] == pytest.approx((0.6 + 0.01 + 4 * 0.3) / 6)
    assert attacked["rate"] == pytest.approx(0.05) and attacked["goal"] == pytest.approx(0.7)


def test_evaluations_without_readings_have_no_entry_and_no_section():
    rows = pd.DataFrame(cell("a", "none", [([0.9], {}), ([0.8], {})]))
    assert warnings_table(rows) == [] and sections(Scope(rows, "dice", None, "", "", (), ())) == []


def test_the_sections_of_the_card():
    bound = {"certificate_sigma": 8.0, "certificate_n": 1000.0, "certificate_n0": 100.0, "certificate_alpha": 0.001}
    rows = cell("a", "none", CLEAN) + cell("b", "PGD", HIT) + cell("c", "none", [([0.9], {**bound, "abstained_r2.027": 0.25})] * 3)
    last = [r for r in rows if r["fingerprint"] == "c" and r["metric"] == "dice"]
    rows += [{**r, "metric": m, "value": v} for r in last for m, v in (("certified_dice_r2.027", 0.5), ("smoothed_dice", 0.88))]
    made = {s.title: s for s in sections(Scope(pd.DataFrame(rows), "dice", 4.0, "grey level", "linf", (), ()))}
    certified, detected, confident = (
        made[t] for t in ("Certified by randomised smoothing", "Does the detector see it?", "Does confidence warn?")
    )
    assert [r[3] for r in certified.rows] == ["smoothed, no change", "2.027"]
    assert certified.rows[1][4:] == [".500 (.50–.50)", ".250 (.25–.25)"] and "0.999" in certified.note
    assert all(len(r) == len(s.heads) for s in made.values() for r in s.rows)
    assert detected.rows[1][0] == "PGD-10, 4 grey levels" and detected.rows[1][5:7] == ["2 of 6", ".50 (.09–.91)"]
    assert "Of 2 cases that failed under PGD-10, 4 grey levels" in confident.note and "caught 1 (.50" in confident.note
