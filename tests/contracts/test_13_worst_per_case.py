"""Promise 13: what is reported is the mean over cases of the worst attack, not the worst mean; also for the set as a whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from engines import evaluator, items, network
from hypothesis import given
from hypothesis import strategies as st
from suites import MEMBERS, alone, dice_of, made
from synthetic_records import frame

from monai_advdef import ThreatModel, stats
from monai_advdef.handlers import RecordHandler, SuiteHandler, evaluate
from monai_advdef.records import read_records
from monai_advdef.suite import attack_with, pooled, worst_set


def test_the_mean_of_the_worst_attack_is_below_the_worst_mean(victim, cases):
    """On images made one attack at a time, scored with sets: some cases fall to one attack, some to another."""
    image, label = cases
    threat = ThreatModel(eps=3.0)
    members = [*MEMBERS, {"attack": "PGD", "objective": "margin", "steps": 6, "step_size": None}]
    dice = torch.stack([dice_of(victim, alone(m, victim, threat, image, label), label).mean(1) for m in members])
    outcome = attack_with(made(members), victim, threat, image, label)
    mine = 1 - outcome.score
    assert float(mine.mean()) == pytest.approx(float(dice.amin(0).mean()), abs=1e-6)
    assert float(mine.mean()) <= float(dice.mean(1).min()) + 1e-6
    assert bool((mine <= dice + 1e-6).all())


def test_a_suite_s_records_hold_the_worst_of_every_case(trained, tmp_path):
    attack = SuiteHandler(made(), eps=4.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False, gallery=False)
    evaluate(evaluator(network(trained), [records, attack], data=items(4)), attack, records)
    table = read_records(tmp_path / "records")
    dice = table[table["metric"] == "dice"].pivot(index="case", columns="attack", values="value")
    lowest = dice.drop(columns="worst").min(axis=1)
    np.testing.assert_allclose(dice["worst"], lowest, atol=1e-6)
    found = stats.headline(table[table["metric"] == "dice"])
    assert found["headline"].tolist() == pytest.approx([lowest.mean()])
    assert found["headline"][0] <= dice.drop(columns="worst").mean().min() + 1e-9


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=2, max_size=6))
def test_statistics_take_the_worst_of_every_case(values):
    table = np.array(values)
    rows = [frame(dict(zip("abcdef", column)), attack=f"attack {k}", eps=8.0) for k, column in enumerate(table.T)]
    worst = stats.worst_case(pd.concat(rows))["value"].to_numpy()
    np.testing.assert_allclose(worst, table.min(1))
    assert worst.mean() <= table.mean(0).min() + 1e-12


def test_for_a_metric_of_the_whole_set_neither_the_worst_attack_nor_the_worst_of_each_case_is_the_worst():
    """Two attacks on a small and a large case: IoU of the pooled voxels goes by voxels, IoU per case does not."""
    #            small case, large case: true positives, predicted, labelled
    counts = torch.tensor(
        [[[[10, 10, 10]], [[600, 600, 1000]]], [[[0, 0, 10]], [[1000, 2000, 1000]]], [[[5, 900, 10]], [[700, 700, 1000]]]]
    )
    found = worst_set(counts.double(), "iou")
    per_case = torch.tensor([[1.0, 0.6], [0.0, 0.5], [5 / 905, 0.7]]).argmin(0)
    assert found.value < float(pooled(counts[per_case, torch.arange(2)], "iou"))
    assert found.value < min(float(v) for v in pooled(counts, "iou"))
    assert found.value == min(float(pooled(torch.stack([counts[a, 0], counts[b, 1]]), "iou")) for a in range(3) for b in range(3))
