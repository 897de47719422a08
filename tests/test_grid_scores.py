"""What is measured on the files' grid, against brute force, MONAI's own metrics and scipy."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from monai_advdef.audit.scoring.grid import OWN_LABEL, OWN_PRED
from monai_advdef.audit.scoring.scores import GridHandler
from monai_advdef.audit.scoring.surfaces import Structure, components_found, structures, surfaces

SPACING = (0.9, 1.4, 2.5)


def meta(x: np.ndarray | torch.Tensor, file: str = "mask.nii.gz") -> MetaTensor:
    """With a turned affine whose columns are as long as voxels are."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(SPACING)
    return MetaTensor(torch.as_tensor(x), affine=torch.from_numpy(affine), meta={"filename_or_obj": file})


def pair(seed: int, shape: tuple[int, ...] = (17, 14, 12)) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of a few boxes each that also touch the border, and single voxels."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *shape), bool)
    for mask in masks:
        for _ in range(4):
            low = rng.integers(0, np.array(shape) - 3)
            mask[tuple(slice(a, a + n) for a, n in zip(low, rng.integers(1, 7, len(shape))))] = True
        mask[tuple(rng.integers(0, n, 5) for n in shape)] = True
    return masks[0], masks[1]


def of(mask: np.ndarray) -> Structure:
    return structures(mask[None], 1, maps=False)[0]


def brute(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distances between surfaces by distance transforms of the whole field of view."""
    edges = [m & ~binary_erosion(m) for m in (a, b)]
    fields = [distance_transform_edt(~e, sampling=spacing) for e in edges]
    return fields[1][edges[0]], fields[0][edges[1]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dims", [2, 3])
def test_surfaces_by_brute_force_and_by_monai(seed, dims):
    a, b = pair(seed, (17, 14, 12)[:dims])
    spacing, tolerance = SPACING[:dims], 2.0
    found, expected = surfaces(of(a), of(b), spacing), brute(a, b, spacing)
    assert np.allclose(np.sort(found.predicted), np.sort(expected[0])) and np.allclose(np.sort(found.labelled), np.sort(expected[1]))
    assert found.hausdorff() == pytest.approx(max(np.percentile(d, 95) for d in expected))
    x, y = (torch.from_numpy(m)[None, None].float() for m in (a, b))
    theirs = compute_surface_dice(x, y, [tolerance], include_background=True, spacing=list(spacing))
    assert found.dice(tolerance) == pytest.approx(float(theirs), abs=1e-6)
    theirs = compute_hausdorff_distance(x, y, include_background=True, percentile=95, spacing=list(spacing))
    assert found.hausdorff() == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("dense", [0, 30, 10**9])
def test_components_one_by_one(seed, share, dense, monkeypatch):
    monkeypatch.setattr("monai_advdef.audit.scoring.surfaces.DENSE", dense)
    a, b = pair(seed)

    def share_found(mask: np.ndarray, other: np.ndarray) -> float:
        parts, count = label(mask, np.ones((3, 3, 3)))
        return float(np.mean([(other[parts == k]).mean() > share for k in range(1, count + 1)]))

    assert components_found(of(a), of(b), share) == pytest.approx((share_found(b, a), share_found(a, b)))


def test_a_component_hangs_together_over_corners():
    a = np.zeros((5, 5), bool)
    a[0, 0] = a[1, 1] = a[3, 3] = True
    b = np.zeros_like(a)
    b[1, 1] = True
    assert components_found(of(b), of(a), 0.0) == (0.5, 1.0)  # the corner's two pixels are one component, and found
    assert components_found(of(b), of(a), 0.5) == (0.0, 1.0)  # by half of it, not by more


def test_a_volume_class_by_class():
    maps = []
    for k in (0, 1):
        found = np.zeros((17, 14, 12), np.uint8)
        for c in (3, 1, 2):
            found[pair(c)[k]] = c
        maps.append(found)
    values = GridHandler(["one", "two", "three", "four"]).measure(*(meta(m[None]) for m in maps))
    voxel = math.prod(SPACING) / 1000
    for k, name in enumerate(["one", "two", "three"], start=1):
        a, b = (m == k for m in maps)
        expected = brute(a, b, SPACING)
        assert values[name, "hd95_mm"] == pytest.approx(max(np.percentile(d, 95) for d in expected))
        assert values[name, "nsd"] == pytest.approx(np.mean(np.concatenate(expected) <= 2))
        assert values[name, "volume_change_ml"] == pytest.approx(voxel * (a.sum() - int(b.sum())))
        assert values[name, "volume_change_percent"] == pytest.approx(100 * (a.sum() / b.sum() - 1))
        assert values[name, "structure_ml"] == pytest.approx(voxel * b.sum())
        assert (values[name, "component_recall"], values[name, "component_precision"]) == components_found(of(a), of(b), 0.0)
    empty = {m: v for (n, m), v in values.items() if n == "four"}
    ones = dict.fromkeys(["nsd", "component_recall", "component_precision"], 1.0)
    assert empty == {**ones, **dict.fromkeys(["hd95_mm", "volume_change_ml", "volume_change_percent", "structure_ml"], 0.0)}


def test_only_one_mask_empty():
    something = np.zeros((1, 4, 5, 6), np.uint8)
    something[0, 1:3, 2, 2] = 1
    handler, field = GridHandler(["lesion"]), math.hypot(*(n * s for n, s in zip((4, 5, 6), SPACING)))
    for one, other, sign in ((something, 0 * something, 1), (0 * something, something, -1)):
        values = {m: v for (_, m), v in handler.measure(meta(one), meta(other)).items()}
        assert [values[m] for m in ("nsd", "component_recall", "component_precision")] == [0, 0, 0]
        assert values["hd95_mm"] == pytest.approx(field)
        assert values["volume_change_ml"] == pytest.approx(sign * 2 * math.prod(SPACING) / 1000)
        assert values.get("volume_change_percent") == (None if sign > 0 else -100)


def test_masks_that_overlap_and_pictures():
    a, b = (np.stack(m) for m in zip(pair(1, (30, 20)), pair(2, (30, 20))))
    values = GridHandler(["x", "y"], activation="sigmoid", tolerance=1).measure(meta(a, "mask.png"), meta(b, "mask.png"))
    for k, name in enumerate("xy"):
        expected = brute(a[k], b[k], (1, 1))
        assert values[name, "hd95_px"] == pytest.approx(max(np.percentile(d, 95) for d in expected))
        assert values[name, "nsd"] == pytest.approx(np.mean(np.concatenate(expected) <= 1))
        assert values[name, "area_change_px"] == a[k].sum() - int(b[k].sum()) and values[name, "structure_px"] == b[k].sum()
    plane = GridHandler(["x"]).measure(meta(a[:1].astype(np.uint8)), meta(b[:1].astype(np.uint8)))
    assert plane["x", "structure_mm2"] == pytest.approx(SPACING[0] * SPACING[1] * b[0].sum()) and ("x", "hd95_mm") in plane


def test_left_out_distances_and_wrong_settings():
    x = meta(np.ones((1, 3, 3, 3), np.uint8))
    assert not {m for _, m in GridHandler(["a"], distances="false").measure(x, x)} & {"nsd", "hd95_mm"}
    for wrong in ({"tolerance": -1}, {"overlap": 1}, {"tolerance": float("nan")}):
        with pytest.raises(ValueError, match=r"tolerance must be >= 0 and overlap in \[0, 1\), got"):
            GridHandler(["a"], **wrong)


def run(pairs: list[dict[str, torch.Tensor]], handler: GridHandler) -> list[dict[tuple[str, str], float]]:
    """Through an engine, as an evaluator calls it."""
    engine, found = Engine(lambda engine, batch: [batch]), []
    handler.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: found.extend(e.state.readings))
    engine.run(pairs)
    return found


def test_both_grids_and_what_is_told_of_them(caplog):
    a, b = (meta(m[None].astype(np.uint8)) for m in pair(4))
    small = [x[:, ::2, ::2, ::2].as_tensor() for x in (a, b)]
    output = {"pred": a, "label": b, OWN_PRED: small[0], OWN_LABEL: small[1]}
    handler = GridHandler(["lesion"])
    (values,) = run([output], handler)
    dice = lambda p, q: float(2 * (p & q).sum() / (p.sum() + q.sum()))  # noqa: E731
    assert values["lesion", "network_dice"] == pytest.approx(dice(*(x.bool() for x in small)))
    assert handler.disagreement().startswith(
        f"mean Dice is {dice(a.bool(), b.bool()):.4f} on the grid of the label files, which counts,"
    )
    assert handler.disagreement() in caplog.text
    run([{**output, OWN_PRED: a.as_tensor(), OWN_LABEL: b.as_tensor()}], handler)
    assert handler.disagreement() == ""


def test_the_classes_of_a_whole_body_are_measured_in_seconds():
    """104 organs of a CT volume of which 40 are there."""
    shape = (160, 160, 140)
    maps = np.zeros((2, *shape), np.uint8)
    for k, at in enumerate(itertools.islice(itertools.product(range(5), range(4), range(2)), 40), start=1):
        for shift, volume in enumerate(maps):
            low = [32 * at[0] + shift, 40 * at[1], 70 * at[2] + 2 * shift]
            volume[low[0] : low[0] + 28, low[1] : low[1] + 34, low[2] : low[2] + 60] = k
    handler = GridHandler([f"organ {k}" for k in range(104)])
    begun = time.perf_counter()
    values = handler.measure(*(meta(m[None]) for m in maps))
    assert time.perf_counter() - begun < 20 and len({n for n, _ in values}) == 104
    assert values["organ 0", "hd95_mm"] == pytest.approx(2 * SPACING[2])
