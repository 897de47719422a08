"""Promise 2: the measured size is at most eps (1 + 1e-6), every value is inside the range, nothing is NaN, case by case."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import ASMA, FGSM, PGD, AutoPGD, CosPGD, IterativeFGSM, Noise, SegPGD, TargetedIterativeFGSM
from monai_advdef.threat import measure

ATTACKS = [
    Noise(),
    Noise(kind="gaussian"),
    FGSM(),
    IterativeFGSM(steps=4),
    IterativeFGSM(rule="grey_level"),
    TargetedIterativeFGSM(steps=4),
    TargetedIterativeFGSM(steps=4, target="least_likely"),
    PGD(steps=4, schedule="constant", objective="cross_entropy"),
    PGD(steps=3, restarts=2),
    PGD(steps=3, schedule="cosine", objective="margin", keep="last"),
    AutoPGD(steps=6),
    AutoPGD(steps=6, objective="jensen_shannon", random_start=False, keep="last"),
    SegPGD(steps=3),
    CosPGD(steps=3, momentum=0.75),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.label)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=6, deadline=None)
@given(
    eps=st.floats(0.01, 60), scale=st.sampled_from([1.0, 255.0, 2000.0]), shift=st.sampled_from([0.0, -0.5]), seed=st.integers(0, 99)
)
def test_every_bounded_attack(victim, cases, attack, norm, eps, scale, shift, seed):
    if norm == "l2" and attack.label == "i-FGSM" and attack.rule == "grey_level":
        eps = min(eps, 20.0)
    lo, hi = shift * scale, (1 + shift) * scale
    image, label = cases[0][:3] / 255 * scale + lo, cases[1][:3]
    image = image.clamp(lo, hi)
    threat = ThreatModel(norm=norm, eps=eps * scale / 255, value_range=(lo, hi), unit="unit")
    seen = Victim(victim.network, normalize=((lo + hi) / 2, (hi - lo) / 2))
    outcome = run(attack, seen, threat, image, label, seed=seed)
    size = measure(outcome.adversarial, image)[norm]
    assert torch.equal(size, outcome.size)
    assert bool((size <= threat.eps * (1 + 1e-6)).all())
    assert bool((outcome.adversarial >= lo).all()) and bool((outcome.adversarial <= hi).all())
    assert bool(torch.isfinite(outcome.adversarial).all())


@pytest.mark.parametrize("attack", [PGD(steps=5), AutoPGD(steps=8)], ids=lambda a: a.label)
def test_per_channel_budget_range_and_region(victim, cases, attack):
    image, label = cases
    region = torch.zeros_like(label)
    region[..., 10:30, 10:30] = 1
    threat = ThreatModel(eps=[2, 0, 5], value_range=[[0, 255], [0, 255], [0, 256]], region=region)
    change = (run(attack, victim, threat, image, label).adversarial - image).abs()
    assert (change.amax((0, 2, 3)) <= torch.tensor([2.0, 0.0, 5.0]) * (1 + 1e-6)).all()
    assert change.amax((0, 2, 3))[0] == 2 and change.amax((0, 2, 3))[1] == 0
    assert float((change * (1 - region)).max()) == 0


def test_image_range_and_nonzero_region(victim):
    z = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    z[:, :, :20] = 0
    label = torch.zeros(2, 1, 48, 48)
    threat = ThreatModel(eps=0.3, value_range="image", unit="sigma", region="nonzero")
    adversarial = run(PGD(steps=5, step_size=0.1), Victim(victim.network), threat, z, label).adversarial
    assert torch.equal(adversarial[:, :, :20], z[:, :, :20])
    assert bool((adversarial.amax((2, 3)) <= z.amax((2, 3))).all()) and bool((adversarial.amin((2, 3)) >= z.amin((2, 3))).all())


def test_unbounded_stays_in_range(victim, cases):
    outcome = run(ASMA(steps=30, tau=1e-3, beta=1e-3), victim, ThreatModel(norm="unbounded"), *cases, target=cases[1].roll(1, 0))
    assert float(outcome.adversarial.min()) >= 0 and float(outcome.adversarial.max()) <= 255
    assert float(outcome.size.min()) > 0


class NanGradient(torch.nn.Module):
    """Right answers, with a gradient of 0/0 wherever a pixel is exactly 128."""

    def forward(self, x):
        odd = (x - 128).abs().sqrt().mean(1, keepdim=True)
        return torch.cat([odd, -odd], 1)


def test_nan_gradients_are_reported_and_do_not_spread(cases):
    image = cases[0].clone()
    image[:, :, :4] = 128
    with pytest.warns(UserWarning, match="NaN or infinite"):
        outcome = run(PGD(steps=2, random_start=False), Victim(NanGradient()), ThreatModel(eps=4), image, cases[1])
    assert bool(torch.isfinite(outcome.adversarial).all())
