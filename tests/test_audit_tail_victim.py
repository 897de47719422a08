"""eps is right for each kind of tail: on a linear victim the attacked image and its output are those worked out by hand.

The network adds up its windows with weights, so the steepest step of the whole is the sign of a gradient that stands here in numpy.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    ClipIntensityPercentiles,
    CropForeground,
    DivisiblePad,
    Flip,
    NormalizeIntensity,
    Resize,
    Rotate90,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    Spacing,
    SpatialPad,
)
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD
from monai_advdef.audit import Tail
from monai_advdef.networks.prepared import PreparedInferer

EPS = 0.5
ROI = (4, 5)


class Weighing(nn.Module):
    """Windows (N, 1, *ROI) -> logits (N, 2, *ROI) that differ by 16 plus the weighted window: the margin is linear."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), 16 + self.weights * x], 1)


def drawn(size=(8, 10), seed=3):
    x = np.random.default_rng(seed).uniform(-80, 200, size).astype(np.float32).round(1)
    x[np.abs(x) < 1] = 5  # no voxel is moved to 0, which a z-score of nonzero ones would leave out
    x[0], x[2, 3], x[3, 1] = 0, -95, 230
    return x


def window(x, w):
    inside = (x > -57) & (x < 164)
    return np.clip((x + 57) / 221, 0, 1), w / 221 * inside


def fixed(x, w):
    return (x - 40) / 25, w / 25


def minmax(x, w):
    low, high = x.min(), x.max()
    z, g = (x - low) / (high - low), w / (high - low)
    g = g + (x == low) * (w * (z - 1)).sum() / (high - low) - (x == high) * (w * z).sum() / (high - low)
    return z, g


def zscore(x, w):
    m, s = x.mean(), x.std()
    z = (x - m) / s
    return z, (w - w.mean() - z * (w * z).mean()) / s


def nonzero(x, w):
    inside = x != 0
    z, g = np.zeros_like(x), w.copy()  # outside the image is passed as it is; moved from 0, a voxel comes among the others
    z[inside], g[inside] = zscore(x[inside], w[inside])
    return z, g


def order(x, q):
    """The percentile and its gradient: two voxels share it."""
    flat = np.argsort(x, axis=None, kind="stable")
    place = q / 100 * (x.size - 1)
    below, share = int(place), place - int(place)
    g = np.zeros(x.size)
    g[flat[below]] += 1 - share
    g[flat[min(below + 1, x.size - 1)]] += share
    return (x.flatten() * g).sum(), g.reshape(x.shape)


def percentiles(x, w):
    (low, to_low), (high, to_high) = order(x, 3), order(x, 96)
    z = (x - low) / (high - low)
    g = w / (high - low) + to_low * (w * (z - 1)).sum() / (high - low) - to_high * (w * z).sum() / (high - low)
    return z, g


def clipped(x, w):
    (low, to_low), (high, to_high) = order(x, 3), order(x, 96)
    inside = (x > low) & (x < high)
    c = np.clip(x, low, high)
    z, g = zscore(c, w)
    return z, g * inside + to_low * g[x <= low].sum() + to_high * g[x >= high].sum()


def turned(x, w):
    z = np.flip(np.rot90(x, axes=(0, 1)), 0)
    return (z + 57) / 221, np.rot90(np.flip(w, 0), -1) / 221


def cropped(x, w):
    where = np.argwhere(x > 100)
    (top, left), (bottom, right) = where.min(0), where.max(0) + 1
    z, g = np.full((8, 10), -1.0), np.zeros_like(x)
    high, wide = bottom - top, right - left
    at = ((8 - high) // 2, (10 - wide) // 2)
    place = np.s_[at[0] : at[0] + high, at[1] : at[1] + wide]
    z[place], g[top:bottom, left:right] = x[top:bottom, left:right] / 100, w[place] / 100
    return z, g


def resampled(x, w):
    """A factor of two, by voxel centres, bilinear: the 1-D matrices written out."""

    def matrix(n):
        rows = np.zeros((2 * n, n))
        for i in range(2 * n):
            at = np.clip((i + 0.5) / 2 - 0.5, 0, n - 1)
            rows[i, int(at)] += 1 - at % 1
            rows[i, min(int(at) + 1, n - 1)] += at % 1
        return rows

    a, b = matrix(x.shape[0]), matrix(x.shape[1])
    z, g = zscore(x, a.T @ w @ b)
    return a @ z @ b.T, g


KINDS = {
    "window": ([ScaleIntensityRange(-57, 164, 0, 1, clip=True)], window, (8, 10)),
    "fixed mean": ([NormalizeIntensity(40, 25)], fixed, (8, 10)),
    "minimum and maximum": ([ScaleIntensity()], minmax, (8, 10)),
    "z-score": ([NormalizeIntensity()], zscore, (8, 10)),
    "z-score of nonzero": ([NormalizeIntensity(nonzero=True, channel_wise=True)], nonzero, (8, 10)),
    "percentiles": ([ScaleIntensityRangePercentiles(3, 96, 0, 1)], percentiles, (8, 10)),
    "clipped, z-score": ([ClipIntensityPercentiles(3, 96), NormalizeIntensity()], clipped, (8, 10)),
    "turned": ([ScaleIntensityRange(-57, 164, 0, 1), Rotate90(), Flip(0)], turned, (10, 8)),
    "cropped, padded": (
        [ScaleIntensityRange(0, 100, 0, 1), CropForeground(lambda x: x > 1), SpatialPad((8, 10), value=-1)],
        cropped,
        (9, 13),
    ),
    "resampled": ([NormalizeIntensity(), Resize((8, 10), mode="bilinear")], resampled, (4, 5)),
    "spacing": ([NormalizeIntensity(), Spacing((1, 1))], None, (8, 8)),
    "divisible": ([ScaleIntensity(), DivisiblePad((4, 5))], None, (7, 9)),
}


def by_differences(tail, x, w):
    """A gradient without autograd, of MONAI's own transforms in double precision, voxel by voxel."""
    image = MetaTensor(torch.as_tensor(x)[None], affine=tail.held_grid.like.affine)

    def fed(v):
        out = MetaTensor(torch.as_tensor(v, dtype=torch.float32)[None], affine=image.affine)
        for t in tail.transforms:
            out = t(out)
        return np.asarray(out.as_tensor()[0], dtype=np.float64)

    z, g = fed(x), np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i], down[i] = x[i] + 0.5, x[i] - 0.5
        g[i] = (w * (fed(up) - fed(down))).sum()
    return z, g


@pytest.mark.parametrize("attack", [FGSM(objective="margin"), PGD(objective="margin", steps=5, step_size=0.2, random_start=False)])
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_linear_victim_the_attacked_output_is_the_one_worked_out_by_hand(kind, attack):
    transforms, hand, size = KINDS[kind]
    x = drawn(size)
    if kind == "cropped, padded":
        x[:2], x[-2:], x[:, :2], x[:, -3:] = 0, 0, 0, 0
    affine = torch.diag(torch.tensor([1.0, 2.0, 1.0] if kind == "spacing" else [1.0, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.as_tensor(x)[None, None], affine=affine[None])
    tail = Tail(transforms)
    tail.require_equal(image, names=kind)
    shape = tail(image.as_tensor()).shape[2:]
    tile = np.random.default_rng(1).normal(size=ROI)
    w = np.tile(tile, (shape[0] // 4, shape[1] // 5))
    assert w.shape == shape
    hand = hand or (lambda v, w: by_differences(tail, v, w))
    z, g = hand(x.astype(np.float64), w)
    assert np.allclose(tail(image.as_tensor())[0, 0], z, atol=2e-5)
    still = kind == "z-score of nonzero" and isinstance(attack, PGD)  # once moved, a voxel that was 0 comes among the others
    moved = x - EPS * np.sign(np.where((np.abs(g) > 1e-9) & ~(still & (x == 0)), g, 0))
    fed, _ = hand(moved.astype(np.float64), w)

    victim = Victim(Weighing(tile), inferer=PreparedInferer(SlidingWindowInferer(ROI, 3, overlap=0), tail))
    threat = ThreatModel(eps=EPS, value_range=(-1024, 3071), unit="HU", region="nonzero" if still else None)
    made = run(attack, victim, threat, image.as_tensor(), torch.ones(1, 1, *shape)).adversarial
    sure = (np.abs(g) > 2e-5) | (np.abs(g) < 1e-9)  # where the way of PGD cannot turn a slope about
    assert sure.mean() > 0.95 and np.allclose(made[0, 0].numpy()[sure], moved[sure], atol=1e-4)
    output = (victim(made) - victim(image.as_tensor()))[0, 1].sum()
    assert float(output) == pytest.approx((w * (fed - z)).sum(), rel=1e-3, abs=2e-3)
    assert output < 0
