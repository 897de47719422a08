"""Promise 26: overlap, boundary and volume are measured, each against an independent count, with a stated rule for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.ndimage import binary_erosion, distance_transform_edt

from monai_advdef.handlers import RegionHandler
from monai_advdef.metrics import counts, dice, iou, mean_dice

SPACING = (1.0, 2.0, 3.0)
SIZE = (6, 7, 8)
handler = RegionHandler(["a", "b"], {"both": [1, 2]})


def image() -> MetaTensor:
    return MetaTensor(torch.zeros(1, *SIZE), affine=torch.diag(torch.tensor([*SPACING, 1.0])))


def drawn(seed: int, share: float = 0.3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(1, *SIZE, generator=g) < share) * torch.randint(1, 3, (1, *SIZE), generator=g)


def overlap(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Dice and IoU by sets of voxels."""
    a, b = ({tuple(v) for v in np.argwhere(m)} for m in (p, t))
    both = len(a | b)
    return (1.0, 1.0) if both == 0 else (2 * len(a & b) / (len(a) + len(b)), len(a & b) / both)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 0.6))
def test_overlap_of_every_class(p, t, share):
    found, true = drawn(p, share), drawn(t, share)
    for k in (1, 2):
        known = overlap((found == k).numpy()[0], (true == k).numpy()[0])
        table = counts(found[None], true[None], 3)
        assert (float(dice(*table)[0, k - 1]), float(iou(*table)[0, k - 1])) == pytest.approx(known, abs=1e-6)
        masks = counts((found == k)[None], (true == k)[None])
        assert float(dice(*masks)) == pytest.approx(known[0], abs=1e-6)


def hd95(p: np.ndarray, t: np.ndarray) -> float:
    """The larger of the two 95th percentiles of the distances between the surfaces, in mm."""
    p_edge, t_edge = (m & ~binary_erosion(m) for m in (p, t))
    there, back = (distance_transform_edt(~edge, sampling=SPACING) for edge in (t_edge, p_edge))
    return max(np.percentile(there[p_edge], 95), np.percentile(back[t_edge], 95))


@pytest.mark.parametrize("seed", range(4))
def test_boundary_and_volume_in_millimetres_and_millilitres(seed):
    found, true = drawn(seed), drawn(seed + 100)
    values = handler.measure(found, true, image())
    for name, numbers, prefix in (("a", (1,), ""), ("b", (2,), ""), ("both", (1, 2), "region_")):
        p, t = (np.isin(m.numpy()[0], numbers) for m in (found, true))
        assert values[name, f"{prefix}hd95_mm"] == pytest.approx(hd95(p, t), rel=1e-5)
        assert values[name, f"{prefix}volume_error_ml"] == pytest.approx(6.0 / 1000 * (p.sum() - t.sum()), rel=1e-5)


def test_the_rule_for_empty_masks_is_stated_and_kept():
    nothing, something = torch.zeros(1, *SIZE, dtype=torch.long), drawn(0)
    diagonal = math.dist([s * n for s, n in zip(SPACING, SIZE)], [0, 0, 0])
    both, one = handler.measure(nothing, nothing, image()), handler.measure(nothing, something, image())
    assert both["both", "region_dice"] == 1 and both["a", "hd95_mm"] == 0 and both["a", "volume_error_ml"] == 0
    assert one["both", "region_dice"] == 0 and one["a", "hd95_mm"] == pytest.approx(diagonal)
    assert float(mean_dice(nothing[None], nothing[None], 3)) == 1 and float(mean_dice(nothing[None], something[None], 3)) == 0
    import monai_advdef.metrics

    assert "both empty = 1, only one empty = 0" in (monai_advdef.metrics.__doc__ or "")
    assert "both empty is a Dice of 1 and a distance of 0" in (RegionHandler.__doc__ or "").replace("\n    ", " ")
