"""Budgets in percent of each image's and channel's own range, and budgets that differ between channels."""

from __future__ import annotations

import pytest
import torch
from conftest import small_unet

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD, IterativeFGSM, Noise, TargetedIterativeFGSM

WIDTHS = torch.tensor([[1.0, 4.0], [10.0, 0.5]])


def images():
    """Two cases of two channels with the ranges above, and a label."""
    g = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, 16, 16, generator=g)
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return (image - low) / (high - low) * WIDTHS[:, :, None, None], torch.randint(0, 2, (2, 1, 16, 16), generator=g)


@pytest.mark.parametrize(
    "attack",
    [FGSM(), IterativeFGSM(steps=3, keep="last"), PGD(steps=3, step_size=None, keep="last"), Noise()],
    ids=lambda a: a.label,
)
def test_each_channel_moves_by_its_share_of_its_own_range(attack):
    image, label = images()
    threat = ThreatModel(eps=5.0, relative=True, value_range="image", unit="% of the range")
    outcome = run(attack, Victim(small_unet(channels=2).eval()), threat, image, label)
    moved = (outcome.adversarial - image).abs().amax((2, 3))
    assert bool((moved <= 0.05 * WIDTHS * (1 + 1e-6)).all()) and bool((moved >= 0.04 * WIDTHS).all())
    torch.testing.assert_close(outcome.size, (moved.double() / WIDTHS).amax(1) * 100, rtol=1e-5, atol=0)
    assert bool((outcome.size <= 5.0 * (1 + 1e-6)).all())


def test_relative_and_absolute_budgets_agree_on_a_fixed_range():
    image, label = (images()[0] * 20).round().clamp(0, 255), images()[1]
    victim = Victim(small_unet(channels=2).eval(), (127.5, 127.5))
    attack = TargetedIterativeFGSM(rule="grey_level")
    relative = run(attack, victim, ThreatModel(eps=100 * 8 / 255, relative=True), image, label)
    absolute = run(attack, victim, ThreatModel(eps=8.0), image, label)
    assert relative.backwards == absolute.backwards == 10
    torch.testing.assert_close(relative.adversarial, absolute.adversarial, atol=1e-3, rtol=0)


def test_one_channel_alone():
    image, label = images()
    outcome = run(FGSM(), Victim(small_unet(channels=2).eval()), ThreatModel(eps=[0.0, 0.3], value_range=(-20, 20)), image, label)
    assert torch.equal(outcome.adversarial[:, 0], image[:, 0]) and not torch.equal(outcome.adversarial[:, 1], image[:, 1])


@pytest.mark.parametrize(("norm", "eps"), [("l2", 5.0), ("linf", 120.0)])
def test_what_no_share_can_be(norm, eps):
    with pytest.raises(ValueError, match="a relative eps is defined for norm 'linf' and up to 100"):
        ThreatModel(norm=norm, eps=eps, relative=True)
