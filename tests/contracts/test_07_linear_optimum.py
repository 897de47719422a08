"""Promise 7: on a linear victim, where the best attack is known in closed form, it is reached within 1 %."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD, AutoPGD, CosPGD, IterativeFGSM, SegPGD
from monai_advdef.objectives import objective

WEIGHT = torch.tensor([0.02, -0.05, 0.01])


class Linear(nn.Module):
    """Logit of class 1 = w · x + offset, of class 0 = 0: the margin of a pixel of class 1 is linear in the image."""

    def __init__(self, offset: float = 20.0) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x):
        z = (x * WEIGHT.to(x)[None, :, None, None]).sum(1, keepdim=True) + self.offset
        return torch.cat([torch.zeros_like(z), z], 1)


ATTACKS = [
    FGSM(objective="margin"),
    IterativeFGSM(objective="margin"),
    *(PGD(steps=40, schedule=schedule, objective="margin") for schedule in ("linear", "cosine")),
    PGD(steps=100, step_size=10.0, objective="margin"),
    AutoPGD(steps=40, objective="margin"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.label} {getattr(a, 'schedule', '')} {getattr(a, 'step_size', None)}")
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_optimum(attack, norm):
    g = torch.Generator().manual_seed(0)
    image, label = 100 + 50 * torch.rand(3, 3, 16, 16, generator=g), torch.ones(3, 1, 16, 16)
    eps = 8.0 if norm == "linf" else 200.0
    outcome = run(attack, Victim(Linear()), ThreatModel(norm=norm, eps=eps), image, label)
    gradient = WEIGHT[:, None, None].expand(3, 16, 16) / 256  # of the mean margin
    best = eps * (gradient.abs().sum() if norm == "linf" else gradient.norm())
    loss = objective("margin")
    gained = loss(Linear()(outcome.adversarial), label.long(), False) - loss(Linear()(image), label.long(), False)
    assert bool((gained >= 0.99 * best).all()) and bool((gained <= best * (1 + 1e-4)).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [PGD, AutoPGD, SegPGD, CosPGD])
def test_the_adversarial_image_in_closed_form(attack, norm):
    """All pixels alike and right: whatever the loss, the best change is against the weights and the same everywhere."""
    image, label = torch.full((2, 3, 8, 8), 100.0), torch.ones(2, 1, 8, 8)
    eps = 8.0 if norm == "linf" else 100.0
    outcome = run(attack(steps=40, random_start=False), Victim(Linear(6.0)), ThreatModel(norm=norm, eps=eps), image, label)
    against = -WEIGHT.sign() * eps if norm == "linf" else -WEIGHT / WEIGHT.norm() * eps / 8
    torch.testing.assert_close(outcome.adversarial - image, against[:, None, None].expand_as(image), atol=1e-3, rtol=1e-4)
    assert torch.equal(outcome.score, torch.zeros(2)), "nothing was won, so nothing was cut short"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_targeted_attack_in_closed_form(norm):
    """Towards class 1 everywhere, the other way round."""
    image, label = torch.full((1, 3, 8, 8), 100.0), torch.ones(1, 1, 8, 8)
    eps = 8.0 if norm == "linf" else 100.0
    towards = WEIGHT.sign() * eps if norm == "linf" else WEIGHT / WEIGHT.norm() * eps / 8
    for attack in (PGD, AutoPGD, SegPGD, CosPGD):
        made = attack(steps=40, random_start=False, keep="last")
        outcome = run(made, Victim(Linear(6.0)), ThreatModel(norm=norm, eps=eps), image, label, target=label)
        torch.testing.assert_close(outcome.adversarial - image, towards[:, None, None].expand_as(image), atol=1e-3, rtol=1e-4)
