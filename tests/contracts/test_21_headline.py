"""Promise 21: oblivious and adaptive results side by side; the lower one is the headline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_advdef.stats import headline, headline_cases


def rows(defense: str, adaptive: bool, values: list[float], attack: str = "PGD") -> pd.DataFrame:
    cases = [f"c{i}" for i in range(len(values))]
    base = {"case": cases, "patient": cases, "class": "lesion", "metric": "dice", "value": values, "attack": attack, "eps": 8.0}
    return pd.DataFrame({**base, "defense": defense, "adaptive": adaptive, "seed": 0})


def of(table: pd.DataFrame, defense: str) -> pd.Series:
    return table.set_index("defense").loc[defense]


def test_the_lower_of_the_two_is_the_headline_whichever_it_is():
    table = headline(
        pd.concat([
            rows("none", False, [0.2, 0.4]),
            rows("JPEG", False, [0.7, 0.6]), rows("JPEG", True, [0.2, 0.3]),
            rows("masked", False, [0.1, 0.3]), rows("masked", True, [0.6, 0.8]),
        ])
    )  # fmt: skip
    assert of(table, "JPEG")[["oblivious", "adaptive", "headline", "source"]].tolist() == pytest.approx(
        [0.65, 0.25, 0.25, "adaptive"]
    )
    assert of(table, "masked")[["oblivious", "adaptive", "headline", "source"]].tolist() == pytest.approx(
        [0.2, 0.7, 0.2, "oblivious"]
    )
    assert of(table, "none")[["oblivious", "adaptive", "headline"]].tolist() == pytest.approx([0.3, 0.3, 0.3])


def test_a_defence_that_nobody_who_knows_it_attacked_shows_the_gap():
    table = headline(pd.concat([rows("none", False, [0.2, 0.4]), rows("JPEG", False, [0.7, 0.6])]))
    assert np.isnan(of(table, "JPEG")["adaptive"]) and of(table, "JPEG")["source"] == "oblivious"


def test_without_a_defence_it_does_not_matter_how_the_rows_are_marked():
    for marks in ([False], [True], [False, True]):
        table = headline(pd.concat([rows("none", mark, [0.2, 0.4]) for mark in marks]))
        assert of(table, "none")[["oblivious", "adaptive", "headline"]].tolist() == pytest.approx([0.3, 0.3, 0.3])


SCORES = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@settings(deadline=None, max_examples=20)
@given(SCORES, SCORES, SCORES)
def test_the_headline_is_never_above_either_side_and_never_below_the_worst_case(oblivious, adaptive, weaker):
    table = pd.concat([rows("FR", False, oblivious), rows("FR", True, adaptive), rows("FR", True, weaker, attack="FGSM")])
    found = of(headline(table), "FR")
    assert found["headline"] == min(found["oblivious"], found["adaptive"])
    assert found["adaptive"] == pytest.approx(np.minimum(adaptive, weaker).mean())
    assert found["casewise"] == pytest.approx(np.min([oblivious, adaptive, weaker], axis=0).mean())
    assert found["casewise"] <= found["headline"] + 1e-12
    assert headline_cases(table)["value"].mean() == pytest.approx(found["headline"])
