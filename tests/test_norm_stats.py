"""The numbers of a minimal-norm attack: median, share of cases below a norm, and those that never fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from engines import evaluator, network

from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.norm_stats import failing_norms, norm_table, norms_in_words, summarize_norms
from monai_advdef.records import read_records


def rows(sizes, dice, **columns):
    made = []
    for i, (size, values) in enumerate(zip(sizes, dice)):
        for k, value in enumerate(np.atleast_1d(values)):
            about = {
                "case": f"c{i}",
                "patient": f"p{i}",
                "class": f"k{k}",
                "metric": "dice",
                "value": value,
                "linf": size,
                "l2": 10 * size,
            }
            made.append(
                {**about, "attack": "minimal norm", "eps": 16.0, "unit": "grey level", "norm": "linf", "steps": 9, "restarts": 1}
            )
    other = [{**row, "metric": "iou", "value": 0.0} for row in made]
    return pd.DataFrame(made + other).assign(**{"defense": "none", "adaptive": False, **columns})


def test_against_a_count_by_hand():
    df = rows([1, 3, 5, 16, 2], [0.4, 0.5, (0.2, 0.8), 0.9, (0.7, 0.9)])
    assert failing_norms(df).set_index("case")["value"].to_dict() == {"c0": 1, "c1": 3, "c2": 5, "c3": np.inf, "c4": np.inf}
    found = summarize_norms(df, sizes=[0.5, 1, 4, 16])
    assert (found.n, found.never, found.median) == (5, 2, 5) and found.shares == (0, 0.2, 0.4, 0.6)
    assert all(low <= share <= high for low, share, high in zip(found.low, found.shares, found.high))
    assert summarize_norms(df).sizes == (2, 4, 8, 16)
    assert failing_norms(df, goal=0.81).set_index("case")["value"]["c4"] == 2
    words = norms_in_words(df, sizes=[4])
    assert words == "Dice 0.5 or less: the median case fails at 5 grey level (linf); 40% at or below 4; 2 of 5 never fail within 16"
    l2 = summarize_norms(df.assign(norm="l2", eps=500.0), sizes=[50])
    assert (l2.median, l2.shares) == (50, (0.6,))
    assert summarize_norms(df.sample(frac=1, random_state=0), sizes=[4]) == summarize_norms(df, sizes=[4])


def test_the_median_of_cases_that_never_fail_is_infinite_and_told():
    df = rows([1, 16, 16, 2], [0.1, 0.9, 0.9, 0.2])
    assert summarize_norms(df).median == np.inf and "half of the cases never fail" in norms_in_words(df)
    assert "all 2 fail within 16" in norms_in_words(rows([1, 2], [0.1, 0.1]))
    assert summarize_norms(rows([1, 2], [0.1, 0.1])).median == 1.5


def test_a_table_has_a_line_for_each_cell():
    df = pd.concat([rows([1, 2], [0.1, 0.2]), rows([3, 4], [0.1, 0.9], defense="FR", adaptive=True)])
    table = norm_table(df, sizes=[2]).set_index("defense")
    assert table.loc["none", ["n", "never", "median", "<= 2"]].tolist() == [2, 0, 1.5, 1.0]
    assert table.loc["FR", ["n", "never", "<= 2"]].tolist() == [2, 1, 0.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "unbounded"}, "with norm 'linf' or 'l2', got 'unbounded'"),
        ({"metric": "iou"}, "got no rows of Dice"),
        ({"unit": "% of the range"}, "in per cent of each range"),
        ({"defense": ["none", "FR"] * 2}, "rows differ in 'defense'"),
    ],
)
def test_other_rows_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        summarize_norms(rows([1, 2], [0.1, 0.2]).assign(**changes))


def test_of_an_evaluation(trained, tmp_path):
    attack = AttackHandler("MinimalNorm", steps=20, eps=32)
    evaluator(network(trained), [RecordHandler(tmp_path, ["lesion"], attack=attack, card=False), attack]).run()
    df = read_records(tmp_path / "records")
    found = summarize_norms(df)
    assert (found.n, found.never) == (6, 0) and 2 < found.median < 20
    assert df["attack"].unique().tolist() == ["minimal-norm (Dice 0.5) dice"]
