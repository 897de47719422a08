"""Promise 12: unbounded eps reaches Dice 0; a victim that keeps its score hides its gradient. (The card has the curve.)"""

from __future__ import annotations

import pytest
import torch
from broken import Thermometer
from checked import Threshold, halves, verdict
from torch import nn

from monai_advdef import ThreatModel, Victim
from monai_advdef.networks.standardized import Standardized


def test_a_victim_that_keeps_its_score_is_suspect(trained, cases, threat):
    hidden = Victim(Standardized(trained, mean=127.5, std=127.5), defense=Thermometer(honest=False))
    found = verdict("Unbounded", hidden, threat, cases[0][:3], cases[1][:3])
    assert found.verdict == "suspect" and found.numbers["dice"] > 0.1 and "leads nowhere" in found.evidence


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_that_loses_it_is_ok_whatever_the_norm_and_however_small_its_own_eps(victim, cases, norm):
    found = verdict("Unbounded", victim, ThreatModel(norm=norm, eps=0.5), cases[0][:2], cases[1][:2])
    assert found.verdict == "ok" and found.numbers["dice"] < 0.05


def test_volumes_by_the_range_of_each_image_and_outside_the_region():
    image, label = halves(8, 8, 8)
    threat = ThreatModel(eps=1.0, relative=True, value_range="image", region=torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool))
    assert verdict("Unbounded", Victim(Threshold(101.0)), threat, image, label).numbers["dice"] == pytest.approx(0, abs=1e-6)


class Absent(nn.Module):
    """Three classes, the last of which is never found."""

    def forward(self, x):
        z = x.mean(1, keepdim=True) - 101.0
        return torch.cat([-z, z, torch.full_like(z, -1e4)], 1)


def test_a_class_that_a_case_lacks_does_not_count_as_kept():
    found = verdict("Unbounded", Victim(Absent()), ThreatModel(eps=8.0), *halves(8, 8))
    assert found.verdict == "ok" and found.numbers["dice"] == pytest.approx(0, abs=1e-6)
