"""Promise 31: a sweep over budgets gives, bit for bit, the images of separate attacks, for fewer gradients where descents agree."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import blobs, small_unet
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import (
    ASMA,
    FGSM,
    PGD,
    VAFA,
    AutoPGD,
    IterativeFGSM,
    MinimalNorm,
    Noise,
    SegPGD,
    Square,
    TargetedIterativeFGSM,
    run_sweep,
)

EPS = [0.5, 1.0, *map(float, range(2, 34, 2))]
ATTACKS = [
    TargetedIterativeFGSM(rule="grey_level"),
    IterativeFGSM(rule="grey_level", keep="best"),
    IterativeFGSM(steps=3),
    PGD(steps=3, momentum=0.75, restarts=2),
    PGD(steps=3, step_size=3.0, random_start=False),
    SegPGD(steps=3, step_size=3.0, random_start=False),
    AutoPGD(steps=4),
    PGD(steps=3, target="shift 3 voxels"),
    MinimalNorm(steps=3),
    Square(queries=4),
    VAFA(steps=2),
    FGSM(),
    Noise(),
]


class Stochastic(nn.Module):
    """A defence that draws: adds noise from the case's own generator."""

    stochastic = True

    def forward(self, image, generators=None):
        if generators is None:
            return image
        return image + torch.stack([torch.randn(image.shape[1:], generator=g) for g in generators])


def same(one, other):
    assert torch.equal(one.adversarial, other.adversarial) and torch.equal(one.trace, other.trace)
    assert torch.equal(one.score, other.score) and torch.equal(one.size, other.size)
    assert (one.forwards, one.backwards) == (other.forwards, other.backwards) and torch.equal(one.passes, other.passes)
    assert torch.equal(one.zero_gradient.nan_to_num(-1), other.zero_gradient.nan_to_num(-1))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.label} {getattr(a, 'rule', '')}{getattr(a, 'step_size', '')}")
@pytest.mark.parametrize("whole", [True, False], ids=["whole grey levels", "fractions"])
def test_sweep_equals_separate_attacks(trained, attack, whole):
    image, label = blobs(2, seed=5)
    image = image if whole else (image * 0.999 + 0.1234).clamp(0, 255)
    victim = Victim(trained, (127.5, 127.5))
    threats = [ThreatModel(eps=eps) for eps in (0.5, 1.0, 2.0, 3.0, 8.0)]
    for threat, found in zip(threats, run_sweep(attack, victim, threats, image, label, seed=[3, 4])):
        same(found, run(attack, victim, threat, image, label, seed=[3, 4]))


def test_eighteen_budgets_cost_69_gradients_instead_of_327(trained):
    image, label = blobs(1, seed=6)
    attack, victim, threats = (
        TargetedIterativeFGSM(rule="grey_level"),
        Victim(trained, (127.5, 127.5)),
        [ThreatModel(eps=e) for e in EPS],
    )
    found = run_sweep(attack, victim, threats, image, label)
    assert [f.backwards for f in found] == [math.ceil(min(e + 4, math.ceil(1.25 * e))) for e in EPS]
    assert sum(f.backwards for f in found) == 327 and sum(f.backwards - f.shared for f in found) == 69
    for threat, outcome in zip(threats, found):
        same(outcome, run(attack, victim, threat, image, label))


def test_no_gradient_is_shared_behind_a_stochastic_defence(trained):
    image, label = blobs(2, seed=5)
    victim = Victim(trained, (127.5, 127.5), defense=Stochastic(), draws=2)
    threats, attack = [ThreatModel(eps=2.0), ThreatModel(eps=4.0)], TargetedIterativeFGSM(rule="grey_level")
    for threat, found in zip(threats, run_sweep(attack, victim, threats, image, label, seed=1)):
        same(found, run(attack, victim, threat, image, label, seed=1))
        assert found.shared == 0


def test_unbounded_threats_go_together_all_the_way():
    image, label = blobs(1, seed=5)
    victim, threats = Victim(small_unet().eval(), (127.5, 127.5)), [ThreatModel(norm="unbounded", eps=1.0)] * 2
    first, second = run_sweep(ASMA(steps=3, target="inverted"), victim, threats, image, label)
    assert (first.shared, second.shared) == (0, 3) and torch.equal(first.adversarial, second.adversarial)


def test_share_of_zero_gradients_is_measured():
    class Half(nn.Module):
        """Sees the left half of the image only."""

        def forward(self, x):
            z = x.mean(1, keepdim=True).clone()
            z[..., z.shape[-1] // 2 :] = 0
            return torch.cat([z, -z], 1)

    image = torch.full((2, 3, 8, 8), 100.0)
    attack = PGD(steps=2, objective="cross_entropy")  # these logits are so far apart that soft Dice has no gradient at all
    outcome = run(attack, Victim(Half()), ThreatModel(eps=1.0), image, torch.ones(2, 1, 8, 8))
    assert outcome.zero_gradient.tolist() == [0.5, 0.5]
    assert bool(run(Noise(), Victim(Half()), ThreatModel(eps=1.0), image, torch.ones(2, 1, 8, 8)).zero_gradient.isnan().all())
