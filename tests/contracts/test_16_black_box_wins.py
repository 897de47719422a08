"""Promise 16, the verdict: searches without gradients run beside the attack, with stated queries; if one wins, masking."""

from __future__ import annotations

import re

import pytest
import torch
from checked import Changed, Threshold, halves, verdict

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, Noise
from monai_advdef.checks import run_checks

SMALL = ThreatModel(eps=1.5)


class Reversed(torch.autograd.Function):
    """The identity, with a gradient of the wrong sign."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


MISLED = Victim(Changed(Threshold(101.0), lambda network, x: network(Reversed.apply(x))))
GENTLE = PGD(steps=3, step_size=1.5, random_start=False)


def test_a_search_that_beats_the_gradient_is_suspect_with_its_queries():
    image, label = halves(8, 8)
    found = verdict("White box", MISLED, SMALL, image, label, attack=GENTLE)
    assert found.verdict == "suspect" and "gradients are hidden" in found.evidence
    queries = int(re.search(r"Square \((\d+) queries\)", found.evidence)[1])
    assert found.numbers["white box"] == 0 and found.numbers[f"Square ({queries} queries)"] > 0.3
    assert found.numbers["sign noise"] == pytest.approx(float(run(Noise(kind="sign"), MISLED, SMALL, image, label).score.mean()))


def test_a_gradient_that_beats_them_is_ok(victim, cases, threat):
    found = verdict("White box", victim, threat, cases[0][:3], cases[1][:3])
    others = [value for name, value in found.numbers.items() if name != "white box"]
    assert found.verdict == "ok" and len(others) == 3 and max(others) < found.numbers["white box"]


def test_noise_is_compared_with_nothing(victim, cases, threat):
    assert run_checks(victim, threat, cases[0][:1], cases[1][:1], attack=Noise(), only=["White box"]) == []
