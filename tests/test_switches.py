"""Options that are true or false: the command line hands over text."""

from __future__ import annotations

import pytest

from monai_advdef.handlers.options import resolve
from monai_advdef.networks import segmentation_network
from monai_advdef.switches import truth


@pytest.mark.parametrize(("given", "meant"), [(True, True), (False, False), ("true", True), ("false", False), ("False", False)])
def test_text_means_what_it_says(given, meant):
    assert truth("heads", given) is meant


@pytest.mark.parametrize("given", [1, "no", None, ""])
def test_other_values_are_refused_by_name(given):
    with pytest.raises(ValueError, match="heads must be true or false, got"):
        truth("heads", given)


def test_attacks_and_networks_take_a_written_false():
    attack, _ = resolve("PGD", None, {"eps": 8, "random_start": "false"})
    assert attack.random_start is False
    attack, _ = resolve("FieldAttack", None, {"norm": "unbounded", "per_voxel": "false"})
    assert attack.per_voxel is False
    sizes = {residual: _size(residual) for residual in (True, False, "true", "false")}
    assert sizes["true"] == sizes[True] > sizes[False] == sizes["false"]


def _size(residual) -> int:
    network = segmentation_network("unet2d", in_channels=1, out_channels=2, mean=0, std=1, residual=residual)
    return sum(p.numel() for p in network.parameters())
