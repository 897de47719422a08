"""The differentiable tail of a preprocessing: equal to MONAI's transforms, their true gradient, eps in image units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import (
    AdjustContrast,
    ClipIntensityPercentiles,
    Compose,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    NormalizeIntensity,
    NormalizeIntensityd,
    ScaleIntensity,
    ScaleIntensityd,
    ScaleIntensityRange,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentiles,
    ShiftIntensity,
    Spacingd,
    StdShiftIntensity,
    ThresholdIntensity,
)
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM
from monai_advdef.audit import NotDifferentiable, Tail, divided
from monai_advdef.audit.tail.intensity import percentiles

ZOO = [  # shapes of published bundles
    [ScaleIntensityRange(-57, 164, 0.0, 1.0, clip=True)],
    [ScaleIntensityRange(-175, 250, 0.0, 1.0, clip=True)],
    [ScaleIntensityRange(-1000, 1000, -1.0, 1.0)],
    [ScaleIntensityRange(-87, 199, None, None)],
    [ScaleIntensityRange(-500, 500, None, 0.7, clip=True)],
    [ScaleIntensityRange(5, 5, 0.25, 1.0, clip=True)],
    [NormalizeIntensity(nonzero=True, channel_wise=True)],
    [NormalizeIntensity(nonzero="True"), ScaleIntensity(-1.0, 1.0)],
    [NormalizeIntensity(nonzero=True, divisor=40.0)],
    [NormalizeIntensity(subtrahend=[10, 20], divisor=[3, 0], channel_wise=True)],
    [NormalizeIntensity(100.0, 50.0)],
    [ScaleIntensity()],
    [ScaleIntensity(minv=0, maxv=255, channel_wise=True)],
    [ScaleIntensity(minv=None, maxv=None, factor=0.5)],
    [ScaleIntensity(minv=None, maxv=1.0)],
    [ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True)],
    [ScaleIntensityRangePercentiles(5, 95, -1, 1, relative=True, clip=True, channel_wise=True)],
    [ScaleIntensityRangePercentiles(0.5, 99.5, None, None)],
    [ClipIntensityPercentiles(0.5, 99.5), NormalizeIntensity()],
    [ClipIntensityPercentiles(None, 99, channel_wise=True)],
    [ClipIntensityPercentiles(2, 98, sharpness_factor=0.1)],
    [ThresholdIntensity(0.0, above=True, cval=0.0), ShiftIntensity(-3.0)],
    [ThresholdIntensity(200.0, above=False, cval=200.0)],
    [AdjustContrast(2.0)],
    [AdjustContrast(0.6, invert_image=True, retain_stats=True)],
    [StdShiftIntensity(0.5, nonzero=True, channel_wise=True)],
    [StdShiftIntensity(-1.5)],
]


def images(n=2, size=(9, 11), seed=0):
    drawn = torch.randn(n, 2, *size, generator=torch.Generator().manual_seed(seed)) * 300
    return torch.where(drawn.abs() < 40, torch.zeros(()), drawn)


@pytest.mark.parametrize("transforms", ZOO, ids=lambda ts: "-".join(type(t).__name__ for t in ts))
@pytest.mark.parametrize("size", [(9, 11), (5, 6, 7)])
def test_it_is_what_monai_computes(transforms, size):
    tail, x = Tail(transforms), images(size=size)
    assert tail.difference(x) < 1e-5
    tail.require_equal(x)
    flat = torch.full((1, 2, 6, 6), 7.0)
    flat[:, 1] = 0
    assert tail.difference(flat) < 1e-5
    assert torch.autograd.grad(tail(flat.requires_grad_()).sum(), flat)[0].isfinite().all()


@pytest.mark.parametrize("transforms", ZOO, ids=lambda ts: "-".join(type(t).__name__ for t in ts))
def test_its_gradient_is_that_of_finite_differences(transforms, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # in double precision
    x = images(1, (4, 5)).double()
    x = torch.where(x == 0, 55.0 + torch.arange(20.0).reshape(4, 5), x).requires_grad_()  # at 0 "nonzero" has a jump
    torch.autograd.gradcheck(Tail(transforms), (x,), eps=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(q=st.floats(0, 100), n=st.integers(1, 50), seed=st.integers(0, 99))
def test_percentiles_are_numpys(q, n, seed):
    x = np.random.default_rng(seed).normal(0, 100, n)
    assert math.isclose(float(percentiles(torch.tensor(x), q, None)[0]), float(np.percentile(x, q)), rel_tol=1e-12, abs_tol=1e-9)


def test_images_of_one_batch_keep_their_own_statistics():
    tail = Tail([NormalizeIntensity(), ScaleIntensity()])
    x = images()
    assert torch.equal(tail(x), torch.cat([tail(x[:1]), tail(x[1:])]))
    assert torch.equal(tail(MetaTensor(x)), tail(x)) and type(tail(MetaTensor(x))) is torch.Tensor


def test_eps_is_in_units_of_the_image():
    """A linear network behind a window of 221 HU: 5 HU move its output by 5/221 a voxel, those outside the window by nothing."""
    x = torch.tensor([-300.0, -57.0, 0.0, 100.0, 160.0, 900.0]).reshape(1, 1, 2, 3)
    tail = Tail([ScaleIntensityRange(-57, 164, 0, 1, clip=True)])
    network = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.5, 0.0]))
    threat = ThreatModel(eps=5.0, value_range=(-1024, 3071), unit="HU")
    label = torch.ones_like(x)
    made = run(FGSM(objective="dice"), Victim(network, normalize=tail), threat, x, label)
    moved = (tail(made.adversarial) - tail(x)).flatten()
    by_hand = torch.tensor([0, 0, -5 / 221, -5 / 221, -5 / 221, 0])
    by_hand[1] = 0  # at the foot of the window: down is outside it
    assert torch.allclose(moved, by_hand, atol=1e-6)


def steps(*tail, before=()):
    return Compose([LoadImaged(["image", "label"]), Spacingd(["image", "label"], (1, 1, 1)), *before, *tail])


def test_a_preprocessing_is_divided_before_its_first_intensity_transform():
    parts = divided(
        steps(
            ScaleIntensityRanged("image", -57, 164, 0, 1, clip=True), EnsureTyped(["image", "label"]), NormalizeIntensityd("image")
        )
    )
    assert [type(t).__name__ for t in parts.head.transforms] == [
        "LoadImaged",
        "Spacingd",
        "Beside",
    ]  # the label's part of EnsureTyped
    assert [type(t).__name__ for t in parts.tail.transforms] == ["ScaleIntensityRanged", "EnsureTyped", "NormalizeIntensityd"]
    nothing = divided(steps())
    assert torch.equal(nothing.tail(images()), images())


def test_a_class_of_ones_own_can_be_vouched_for():
    own = Lambdad("image", lambda x: x[..., :8])
    assert own in divided(steps(own, ScaleIntensityd("image")), reads=["Lambdad"]).head.transforms


class Doubled(NormalizeIntensity):
    def __call__(self, img):
        return 2 * super().__call__(img)


def test_a_relative_of_a_known_transform_is_not_taken_for_it():
    x = images()
    with pytest.raises(NotDifferentiable, match="Doubled is not known, and passes a gradient that is off its slope"):
        Tail([Doubled()]).require_equal(x)


def test_a_difference_to_monai_is_told_by_case():
    wrong = NormalizeIntensity()
    wrong._mean = lambda x: x.mean() + 1  # another release that computes otherwise
    with pytest.raises(NotDifferentiable, match="patient_7: NormalizeIntensity differ from MONAI's own"):
        Tail([wrong]).require_equal(images(), names=["patient_7", "patient_8"])
