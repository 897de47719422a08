"""Promise 6: eps = 0 returns the image bit for bit."""

from __future__ import annotations

import pytest
import torch

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import FGSM, PGD, AutoPGD, IterativeFGSM, Noise, SegPGD, TargetedIterativeFGSM


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "attack",
    [
        Noise(),
        Noise(kind="gaussian"),
        FGSM(),
        IterativeFGSM(rule="grey_level"),
        TargetedIterativeFGSM(),
        PGD(steps=3),
        AutoPGD(steps=6),
        SegPGD(steps=2),
    ],
    ids=lambda a: a.label,
)
def test_nothing_changes(victim, cases, attack, norm):
    image = (cases[0] + 0.123).clamp(0, 255)
    outcome = run(attack, victim, ThreatModel(norm=norm, eps=0), image, cases[1], seed=5)
    assert torch.equal(outcome.adversarial, image)
    assert float(outcome.size.max()) == 0
