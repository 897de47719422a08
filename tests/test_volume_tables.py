"""Tables of a study on volumes from records with known contents."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from monai_advdef.papers.robustifying import tables as volume_tables

LABELS = ("core", "oedema", "enhancing tumour")
SUBJECTS = [f"s{k}" for k in range(7)]


def value(network: str, attack: str, eps: float, label: int, subject: int) -> float:
    """Made up: falls with eps, less for the hardened network."""
    fall = {"clean": 0.0, "noise": 0.01, "FGSM": 2.0, "i-FGSM": 4.0}[attack] * eps * (0.5 if network == "hard" else 1.0)
    return 0.8 - 0.05 * label - 0.01 * subject - fall * (1 + 0.01 * subject)


@pytest.fixture
def rows() -> pd.DataFrame:
    cells = [("clean", 0.0), *itertools.product(("noise", "FGSM", "i-FGSM"), (0.05, 0.1))]
    found = []
    for network, (attack, eps), (k, subject) in itertools.product(("plain", "hard"), cells, enumerate(SUBJECTS)):
        about = {"network": network, "training": k % 2, "attack_row": attack, "eps": eps, "case": subject, "patient": subject}
        for label, name in enumerate(LABELS):
            found.append({**about, "class": name, "metric": "dice", "value": value(network, attack, eps, label, k)})
            found.append({**about, "class": name, "metric": "hd95_mm", "value": 10.0 * label + k})
            found.append({**about, "class": name, "metric": "volume_error_ml", "value": -1.0 * k})
        for region in ("whole tumour", "enhancing tumour"):
            found.append({**about, "class": region, "metric": "region_dice", "value": 0.9 - eps})
    return pd.DataFrame(found)


def test_scores_hold_labels_regions_and_the_mean_of_the_labels(rows):
    found = volume_tables.scores(rows)
    assert volume_tables.kinds(found) == [*LABELS[:1], "enhancing tumour", "oedema", "whole tumour", volume_tables.MEAN]
    one = found[(found["network"] == "plain") & (found["attack"] == "FGSM") & (found["eps"] == 0.1) & (found["case"] == "s3")]
    by = one.set_index("of")["value"]
    assert by[volume_tables.MEAN] == pytest.approx(np.mean([value("plain", "FGSM", 0.1, k, 3) for k in range(3)]))
    assert by["enhancing tumour"] == pytest.approx(value("plain", "FGSM", 0.1, 2, 3))  # the label, not the region of its name


def test_clean_table_holds_mean_spread_and_median_of_every_network(rows):
    lines = volume_tables.clean_table(rows, ["plain", "hard"]).splitlines()
    assert lines[-5].count("|") == 4 and len([line for line in lines if line.startswith("| ")]) == 1 + 5
    values = [value("plain", "clean", 0.0, 0, k) for k in range(7)]
    expected = f"| core | {np.mean(values):.3f} ± {np.std(values):.3f} ({np.median(values):.3f}) |".replace("0.", ".")
    assert any(line.startswith(expected) for line in lines)


def test_label_table_tests_every_label(rows):
    text = volume_tables.label_table(rows, "plain", [("FGSM", 0.1)])
    clean, hit = ([value("plain", *cell, 0, k) for k in range(7)] for cell in (("clean", 0.0), ("FGSM", 0.1)))
    line = next(line for line in text.splitlines() if "| core |" in line)
    assert f"| 7 | {np.median(clean):.3f}".replace("0.", ".") in line
    assert wilcoxon(hit, clean).pvalue == pytest.approx(2 / 2**7)
    assert "−1.00 | .062 |" in line  # Holm: four of the five tests are exact, the tied one is smaller
    assert "‡" not in text.split("| attack")[1]


def test_too_few_subjects_are_marked(rows):
    few = rows[rows["case"].isin(SUBJECTS[:4])]
    assert volume_tables.label_table(few, "plain", [("FGSM", 0.1)]).count("‡") == 1 + 5


def test_drop_table_finds_the_eps_of_65_per_cent(rows):
    text = volume_tables.drop_table(rows, "plain", ["noise", "i-FGSM"])
    assert "| noise | .719 (−0 %) | .719 (−0 %) | – |" in text
    mean = {eps: np.mean([value("plain", "i-FGSM", eps, a, k) for a in range(3) for k in range(7)]) for eps in (0.0, 0.05, 0.1)}
    assert f"(−{100 * (1 - mean[0.1] / mean[0.0]):.0f} %)" in text


@given(st.floats(0.1, 5), st.lists(st.floats(0.01, 1), min_size=1, max_size=6, unique=True))
def test_eps_of_a_linear_fall_is_exact(slope, sizes):
    values = {eps: 0.7 * (1 - slope * eps) for eps in sizes}
    found = volume_tables.eps_of_drop(values, 0.7)
    if slope * max(sizes) >= 0.65:
        assert found == pytest.approx(0.65 / slope)
    elif slope * max(sizes) < 0.65 - 1e-9:
        assert found is None


def test_worst_case_is_sought_per_subject(rows):
    found = volume_tables.scores(rows[rows["network"] == "plain"])
    lowest = volume_tables.worst(found, ["noise", "FGSM", "i-FGSM"], 0.1)
    expected = found[(found["attack"] == "i-FGSM") & (found["eps"] == 0.1)]
    merged = lowest.merge(expected, on=["of", "case"])
    assert np.allclose(merged["value_x"], merged["value_y"])
    assert len(merged) == len(lowest)


def test_defences_stand_beside_each_other(rows):
    table = volume_tables.defense_table(rows, ["plain", "hard"], ["FGSM", "i-FGSM"], 0.1)
    assert "| plain | .900 / .720 | .800 / " in table
    pairs = volume_tables.defense_pairs(rows, [("hard", "plain")], ["FGSM", "i-FGSM"], 0.1)
    assert [line.split("|")[2].strip() for line in pairs.splitlines()[6:]] == ["clean", "FGSM", "i-FGSM", "worst case per subject"]
    assert pairs.count("+1.00") == 3  # all subjects gain under attack, none moves clean


def test_zero_gradients_are_told_where_they_were_recorded(rows):
    share = {"FGSM": 0.25, "i-FGSM": 0.5}
    attacked = rows[(rows["class"] == "core") & (rows["metric"] == "dice") & rows["attack_row"].isin(share)]
    zeros = attacked.assign(**{"class": "image", "metric": "zero_gradient"}, value=attacked["attack_row"].map(share))
    zeros.loc[zeros["network"] == "hard", "value"] /= 2
    text = volume_tables.masking_table(pd.concat([rows, zeros]), ["plain", "hard"], ["noise", "FGSM", "i-FGSM"], 0.1)
    assert "| plain | – | 25.0 | 50.0 |" in text and "| hard | – | 12.5 | 25.0 |" in text


def test_physical_table_has_a_line_for_every_measure(rows):
    text = volume_tables.physical_table(rows, "plain", [("FGSM", 0.1)])
    assert "| enhancing tumour: HD95, mm | 23.0 [21.5, 24.5] | 23.0 [21.5, 24.5] |" in text
    assert "| core: volume error, ml | -3.0 [-4.5, -1.5] |" in text
