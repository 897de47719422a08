"""Promise 7: on a linear victim, where the best attack is known in closed form, it is reached within 1 %."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD, IterativeFGSM
from monai_advdef.objectives import objective

WEIGHT = torch.tensor([0.02, -0.05, 0.01])


class Linear(nn.Module):
    """Logit of class 1 = w · x + 20, of class 0 = 0: the margin of a pixel of class 1 is linear in the image."""

    def forward(self, x):
        z = (x * WEIGHT.to(x)[None, :, None, None]).sum(1, keepdim=True) + 20
        return torch.cat([torch.zeros_like(z), z], 1)


def attacks(eps):
    return [FGSM(objective="margin"), IterativeFGSM(objective="margin"), PGD(steps=40, step_size=eps / 8, objective="margin")]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["FGSM", "i-FGSM", "PGD"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_optimum(which, norm):
    g = torch.Generator().manual_seed(0)
    image, label = 100 + 50 * torch.rand(3, 3, 16, 16, generator=g), torch.ones(3, 1, 16, 16)
    eps = 8.0 if norm == "linf" else 200.0
    outcome = run(attacks(eps)[which], Victim(Linear()), ThreatModel(norm=norm, eps=eps), image, label)
    gradient = WEIGHT[:, None, None].expand(3, 16, 16) / 256  # of the mean margin
    best = eps * (gradient.abs().sum() if norm == "linf" else gradient.norm())
    loss = objective("margin")
    gained = loss(Linear()(outcome.adversarial), label.long(), False) - loss(Linear()(image), label.long(), False)
    assert bool((gained >= 0.99 * best).all()) and bool((gained <= best * (1 + 1e-4)).all())
