"""Distances, volumes and regions of a volume against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import binary_erosion, distance_transform_edt

from monai_advdef.handlers import RegionHandler

CLASSES = ["core", "oedema", "enhancing"]
REGIONS = {"whole": [1, 2, 3], "tumour core": [1, 3]}
SPACING = (1.0, 2.0, 3.0)


def image(shape: tuple[int, ...]) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *shape), affine=torch.diag(torch.tensor([-SPACING[0], -SPACING[1], SPACING[2], 1.0])))


def one_hot(mask: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(mask.long(), 4).movedim(-1, 0).float()


def hd95(a: np.ndarray, b: np.ndarray) -> float:
    """Greater of the two 95th percentiles of surface distances, by distance transforms."""
    edges = [m & ~binary_erosion(m) for m in (a, b)]
    fields = [distance_transform_edt(~e, sampling=SPACING) for e in edges]
    return max(np.percentile(fields[1][edges[0]], 95), np.percentile(fields[0][edges[1]], 95))


def test_values_agree_with_scipy_and_with_counting():
    rng = np.random.default_rng(0)
    masks = []
    for shift in (0, 2):
        mask = torch.zeros(12, 14, 10, dtype=torch.long)
        mask[2 + shift : 9, 3:11, 2:8] = 2
        mask[4:7, 5 : 9 - shift, 3:6] = 3
        mask[5:6, 6:7, 4:5] = 1
        mask[tuple(torch.from_numpy(rng.integers(3, 8, (3, 4))))] = 1
        masks.append(mask)
    found = RegionHandler(CLASSES, REGIONS).measure(one_hot(masks[0]), masks[1][None].float(), image((12, 14, 10)))
    for name, prefix, numbers in [(c, "", [k + 1]) for k, c in enumerate(CLASSES)] + [(n, "region_", v) for n, v in REGIONS.items()]:
        a, b = (np.isin(m.numpy(), numbers) for m in masks)
        assert found[name, f"{prefix}volume_error_ml"] == pytest.approx((a.sum() - b.sum()) * 6 / 1000)
        assert found[name, f"{prefix}hd95_mm"] == pytest.approx(hd95(a, b), abs=1e-4)
        if prefix:
            assert found[name, "region_dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_rule_for_empty_masks():
    nothing, something = torch.zeros(1, 4, 5, 6), torch.ones(1, 4, 5, 6)
    handler = RegionHandler(["lesion"], {"all": [1]})
    both = handler.measure(nothing, nothing, image((4, 5, 6)))
    assert (both["all", "region_dice"], both["lesion", "hd95_mm"], both["lesion", "volume_error_ml"]) == (1, 0, 0)
    for pair, error in (((nothing, something), -0.72), ((something, nothing), 0.72)):
        one = handler.measure(*pair, image((4, 5, 6)))
        assert one["all", "region_dice"] == 0
        assert one["lesion", "hd95_mm"] == pytest.approx(math.hypot(4 * 1, 5 * 2, 6 * 3))
        assert one["lesion", "volume_error_ml"] == pytest.approx(error)


def test_the_field_of_view_is_that_of_the_file():
    cropped = image((4, 5, 6))
    cropped.meta["spatial_shape"] = np.array([240, 240, 155])
    cropped.affine = torch.eye(4)
    found = RegionHandler(["lesion"]).measure(torch.zeros(1, 4, 5, 6), torch.ones(1, 4, 5, 6), cropped)
    assert found["lesion", "hd95_mm"] == pytest.approx(373.13, abs=0.005)  # the distance BraTS gives


def test_distances_can_be_left_out():
    found = RegionHandler(["lesion"], distances=False).measure(torch.ones(1, 4, 4, 4), torch.ones(1, 4, 4, 4), image((4, 4, 4)))
    assert set(found) == {("lesion", "volume_error_ml")}


def test_a_region_of_no_class_is_told():
    with pytest.raises(ValueError, match="regions: 'whole' must be made of classes 1..2, got \\[1, 3\\]"):
        RegionHandler(["a", "b"], {"whole": [1, 3]})
