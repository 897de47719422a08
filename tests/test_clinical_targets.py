"""Masks that a clinic fears, against what they promise: volumes, distances, places; per case, in 2D and 3D, for both heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from monai_advdef.attacks import PGD, make_target
from monai_advdef.attacks.targets import check_target_name


def ellipsoid(shape, centre, radii):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii)) <= 1


def made(name, masks, head="sigmoid", image=None, classes=2):
    """The target of one case (K, \\*S), as an array."""
    label = torch.as_tensor(np.asarray(masks))[None]
    label = label.long() if head == "softmax" else label.float()
    logits = torch.zeros(1, classes if head == "softmax" else label.shape[1], *label.shape[2:])
    found = make_target(name, label, logits, head, None if image is None else torch.as_tensor(image)[None].float())
    assert found.dtype == label.dtype and found.shape == label.shape
    return found[0].numpy()


LESION = {2: ellipsoid((40, 48), (14, 20), (6, 9)), 3: ellipsoid((24, 28, 20), (10, 14, 8), (4, 6, 3))}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@settings(max_examples=15, deadline=None)
@given(share=st.floats(-0.9, 1.5).filter(lambda s: abs(s) > 0.01))
def test_grown_by_exactly_its_share_and_at_its_surface(dims, head, share):
    mask = LESION[dims]
    found = made(f"grow {share!r}", mask[None], head)[0] != 0
    assert found.sum() == mask.sum() + np.sign(share) * max(1, round(abs(share) * int(mask.sum())))
    if share > 0:
        assert found[mask].all()
        far = ndimage.distance_transform_edt(~mask)
        assert far[found].max() <= far[~found].min()
    else:
        assert not found[~mask].any()
        deep = ndimage.distance_transform_edt(mask)
        assert deep[mask & ~found].max() <= deep[found].min()


def test_classes_grow_at_the_outside_and_masks_each_by_itself():
    disc, cup = ellipsoid((40, 40), (20, 20), (10, 10)), ellipsoid((40, 40), (20, 20), (4, 4))
    classes = disc.astype(int) + cup
    found = made("grow 0.5", classes[None], "softmax", classes=3)[0]
    assert (found != 0).sum() == disc.sum() + round(0.5 * int(disc.sum())) and ((found == 2) == cup).all()
    both = made("grow 0.5", np.stack([disc, cup, np.zeros_like(cup)]))
    assert [m.sum() for m in both] == [m.sum() + round(0.5 * int(m.sum())) for m in (disc, cup)] + [0]
    assert (both[0] >= both[1]).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("how", "along"), [("shift 5 voxels", lambda extent: 5), ("shift 0.5", lambda extent: round(0.5 * extent))])
def test_shifted_by_so_many_voxels_to_where_there_is_room(dims, how, along):
    mask = LESION[dims]
    found = made(how, mask[None].astype(int), "softmax")[0] != 0
    moved = np.argwhere(found).mean(0) - np.argwhere(mask).mean(0)
    axis = int(np.abs(moved).argmax())
    extent = np.ptp(np.argwhere(mask)[:, axis]) + 1
    assert found.sum() == mask.sum() and np.abs(moved).sum() == pytest.approx(along(extent)) and moved[axis] > 0
    assert (np.roll(mask, along(extent), axis) == found).all()


def test_what_leaves_the_image_is_cut_off_and_not_wrapped_around():
    mask = np.zeros((20, 20), bool)
    mask[:, 2:18] = True
    found = made("shift 6 voxels", mask[None].astype(int), "softmax")[0]
    assert found[:, 8:].all() and not found[:, :8].any()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_invented_of_the_stated_size_apart_from_what_is_there(dims, empty, head):
    mask = LESION[dims] & (not empty)
    found = made("invent 8 voxels", mask[None], head)[0] != 0
    new = found & ~mask
    assert found[mask].all() and ndimage.label(found)[1] == (1 if empty else 2)
    assert (np.ptp(np.argwhere(new), axis=0) + 1 == 9).all()
    ball = {2: np.pi * 4**2, 3: 4 / 3 * np.pi * 4**3}[dims]
    assert new.sum() == pytest.approx(ball, rel=0.1)
    share = made("invent 0.2", mask[None], head)[0] != 0
    assert np.ptp(np.argwhere(share & ~mask)[:, 0]) + 1 == pytest.approx(0.2 * min(mask.shape), abs=1.5)


def test_invented_inside_the_body():
    body = ellipsoid((60, 60), (20, 20), (15, 15))
    found = made("invent 9 voxels", np.zeros((1, 60, 60)), image=np.where(body, 80.0, 0)[None])[0] != 0
    assert found.any() and body[found].all()
    anywhere = made("invent 9 voxels", np.zeros((1, 60, 60)))[0] != 0
    assert not body[anywhere].all()


def test_erased_is_nothing():
    assert not made("erase", LESION[2][None].astype(int) * 2, "softmax", classes=3).any()


@pytest.mark.parametrize(
    ("name", "masks", "words"),
    [
        ("erase", np.zeros((1, 20, 20)), "no foreground"),
        ("shift", np.zeros((2, 20, 20)), "no foreground"),
        ("grow -0.5", np.zeros((1, 8, 8, 8)), "no foreground"),
        ("elsewhere", np.zeros((1, 20, 20)), "no foreground"),
        ("shift 19 voxels", LESION[2][None], "would lie outside the image"),
        ("invent 50 voxels", LESION[2][None], "no room for a lesion 50 voxels across"),
        ("grow 30", LESION[2][None], "cannot grow by"),
        ("grow -0.99", np.eye(1, 400).reshape(1, 20, 20), "none would be left"),
    ],
)
def test_what_cannot_be_made_is_told_and_marked(name, masks, words):
    if name.startswith("shift 19"):
        masks = np.ones((1, 20, 20))
    with pytest.warns(UserWarning, match=f"target '{name}' cannot be made for case 0 .*{words}"):
        assert (made(name, masks) == -1).all()


@pytest.mark.parametrize(
    "name", ["erase", "invent", "invent 3 voxels", "shift", "shift 1.5", "shift 1 voxel", "grow", "grow +0.1", "grow -0.9"]
)
def test_names_that_are_understood(name):
    check_target_name(name)
    assert PGD(target=name).label.endswith(f"to {name}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("grow -1", "above -1 and not 0"),
        ("grow 2 voxels", "takes a share of the volume"),
        ("shift 0", "takes a number above 0"),
        ("invent -2 voxels", "takes a number above 0"),
        ("shift far", "write a number as in shift 0.5"),
        ("shift 1.2.3", "is not understood"),
        ("erase 2", "takes no number"),
        ("inverted 2", "takes no number"),
        ("incent", "did you mean 'invent'"),
    ],
)
def test_names_that_are_not(name, words):
    with pytest.raises(ValueError, match=words):
        PGD(target=name)
