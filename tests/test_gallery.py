"""Pictures for the card: the right voxels at the right places, whatever grids image and label lie on, and not too many bytes."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage
from synthetic_records import frame

from monai_advdef.handlers.display.grid import LONGEST, MOST_VOXELS, Grid, GridsDiffer, places, view
from monai_advdef.handlers.display.tones import window
from monai_advdef.handlers.gallery import Gallery
from monai_advdef.records import RecordWriter
from monai_advdef.report import build
from monai_advdef.report.gallery import outline, pictures
from monai_advdef.report.gallery.outlines import MOST_POINTS, simplified

ABOUT = {"fingerprint": "bb", "attack": "PGD", "suite": "", "eps": 8.0, "unit": "HU", "defense": "none", "adaptive": False}


def affine(spacing, origin=(0.0, 0.0, 0.0), axes=((1, 0, 0), (0, 1, 0), (0, 0, 1))) -> torch.Tensor:
    """From the size of a voxel, the place of the first and the direction of each axis of the array in RAS."""
    made = np.eye(4)
    made[:3, :3] = np.array(axes, dtype=float).T * np.array(spacing)
    made[:3, 3] = origin
    return torch.as_tensor(made)


def kept(folder: Path, cases=1, about=None, masks=False, **images) -> list[dict]:
    """What the gallery writes of a few cases of these images, the worst first."""
    gallery = Gallery(folder, masks=masks)
    gallery.start({**ABOUT, **(about or {})})
    for k in range(cases):
        gallery.offer(f"c{k}", 0.1 * (k + 1), **images)
    gallery.finish()
    names = sorted(folder.glob("*.npz"), key=lambda path: "worst" not in path.name)
    return [{k: v if v.ndim else v.item() for k, v in np.load(path).items()} for path in names]


def at(entry: dict, grid_affine: np.ndarray, name: str, world) -> float:
    """The value of an array of a kept volume at a place in mm (RAS), by the sizes of its voxels alone; its first corner lies at the
    rightmost, frontmost and lowest corner of the label's grid."""
    ends = np.array([[0, 0, 0], *np.eye(3) * (np.array(entry["full"]) - 1)])
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in entry["full"]], indexing="ij")).reshape(3, -1)
    mm = grid_affine[:3, :3] @ corners + grid_affine[:3, 3:]
    first = np.array([mm[0].max(), mm[1].max(), mm[2].min()])
    steps = (first - np.array(world)) * np.array([1, 1, -1])
    index = np.floor(steps / entry["spacing"]).astype(int)
    assert len(ends) == 4
    return entry[name][tuple(index)]


AXES = {
    "as RAS": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "as LPS": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "sagittal first": ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
    "coronal": ((0, 0, 1), (-1, 0, 0), (0, -1, 0)),
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_volume_is_kept_along_left_back_and_head(tmp_path, axes):
    """A voxel at a place in mm is found there, however the array is stored."""
    shape, where = (12, 16, 10), affine((1.5, 1.0, 2.0), (5.0, -3.0, 7.0), axes)
    label = torch.zeros(1, *shape)
    label[0, 7, 3, 6] = 1
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) * 100
    image[0, 7, 3, 6] = 900.0
    world = (where[:3, :3] @ torch.tensor([7.0, 3.0, 6.0], dtype=torch.float64) + where[:3, 3]).numpy()
    clean, mask = MetaTensor(image, affine=where), MetaTensor(label, affine=where)
    (entry,) = kept(tmp_path, clean=clean, image=clean + 4, label=mask, prediction=mask)
    entry["full"] = shape
    assert entry["label"].sum() == 1 and at(entry, where.numpy(), "label", world) == 1
    assert at(entry, where.numpy(), "image", world) == 255
    assert np.abs(entry["difference"] - 4 / 8 * 127).max() <= 1 and entry["limit"] == 8
    towards = [int(np.abs(np.array(axes)[:, k]).argmax()) for k in range(3)]
    assert entry["spacing"].tolist() == [(1.5, 1.0, 2.0)[k] for k in towards]


def test_an_image_on_another_grid_is_shown_at_the_places_of_the_label(tmp_path):
    """A ball drawn in mm on two grids, one turned and finer: outlines of one lie on the other, by scipy's distance."""
    fine, coarse = (48, 40, 30), (20, 24, 16)
    first, second = (
        affine((1.0, 1.0, 1.5), (-24, -20, -22)),
        affine((2.5, 2.0, 3.0), (24, 22, -23), ((-1, 0, 0), (0, -1, 0), (0, 0, 1))),
    )

    def ball(shape, where):
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
        mm = where[:3, :3].numpy() @ index + where[:3, 3:].numpy()
        return torch.as_tensor((((mm - [[4], [-3], [2]]) ** 2).sum(0) < 11**2).reshape(1, *shape)).float()

    image = MetaTensor(100 * ball(coarse, second), affine=second)
    label = MetaTensor(ball(fine, first), affine=first)
    (entry,) = kept(tmp_path, clean=image, image=image, label=label, prediction=label)
    shown, true = entry["image"] > 60, entry["label"] > 0
    outside = ndimage.distance_transform_edt(~true, sampling=entry["spacing"])
    inside = ndimage.distance_transform_edt(true, sampling=entry["spacing"])
    assert outside[shown].max() <= 2.5 and inside[~shown].max() <= 2.5, "half a coarse voxel, diagonally"
    assert entry["label"].shape == fine


def test_grids_that_nothing_brings_together_are_told_and_no_picture_is_made(tmp_path):
    image, label = torch.rand(1, 16, 16, 8), torch.zeros(1, 20, 16, 8)
    (entry,) = kept(tmp_path, clean=image, image=image, label=label, prediction=label)
    assert "image" not in entry
    assert (
        entry["left_out"]
        == "the image has 16 × 16 × 8 pixels and the label 20 × 16 × 8, and nothing tells how they lie to each other"
    )
    apart = MetaTensor(image, affine=affine((1, 1, 1), (500, 0, 0)))
    with pytest.raises(GridsDiffer, match="by their affines they lie apart"):
        places(view(Grid.of(label)), Grid.of(MetaTensor(label, affine=affine((1, 1, 1), (1, 0, 0)))), Grid.of(apart))
    flat = [Grid((40, 30), np.diag([-1.0, -1.0, 1.0])), Grid((20, 30), np.diag([-1.0, -1.0, 1.0]))]
    with pytest.raises(GridsDiffer, match="they do not cover the same field"):
        places(view(flat[0]), *flat)
    table = [("aa", [0.9], {}), ("bb", [0.1], {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "HU"})]
    for name, values, about in table:
        with RecordWriter(tmp_path / "records", name, {}) as writer:
            writer.add(frame(values, fingerprint=name, **about).to_dict("records"))
    (tmp_path / "gallery").mkdir()
    (tmp_path / "bb-worst.npz").rename(tmp_path / "gallery" / "bb-worst.npz")
    assert "No picture: the image has 16 × 16 × 8 pixels" in build(tmp_path).read_text(encoding="utf-8")


def test_a_picture_that_was_resized_is_shown_on_the_grid_of_its_mask(tmp_path):
    """A plane scored at the size of its file, 40 by 60, by a network that saw 20 by 30."""
    image = torch.arange(600.0).reshape(1, 20, 30) % 251
    small = MetaTensor(image, affine=torch.tensor([[-2.0, 0, -0.5], [0, -2.0, -0.5], [0, 0, 1.0]]))
    label = MetaTensor(torch.zeros(1, 40, 60), affine=torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    (entry,) = kept(tmp_path, clean=small, image=small, label=label, prediction=label)
    assert entry["image"].shape == entry["label"].shape == (60, 40)
    expected = np.kron(image[0].numpy().T, np.ones((2, 2)))
    np.testing.assert_array_equal(entry["image"], expected)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((512, 512, 400), (0.8, 0.8, 1.0)), ((20, 30, 700), (1, 1, 1)), ((400, 400, 5), (1, 1, 9))]
)
def test_a_volume_is_cut_down_and_stays_in_proportion(shape, spacing):
    shown = view(Grid(shape, affine(spacing, (1, 2, 3)).numpy()))
    counts = [len(i) for i in shown.indices]
    assert np.prod(counts) <= MOST_VOXELS and max(counts) <= LONGEST
    assert np.array(counts) * shown.spacing == pytest.approx(np.array(shape) * spacing)
    assert counts[2] == 5 if shape[2] == 5 else True, "what has few slices keeps them"
    assert all(np.abs(np.diff(i)).max() - np.abs(np.diff(i)).min() <= 1 for i in shown.indices)


def test_masks_that_overlap_keep_every_border(tmp_path):
    """The tumour's regions lie in each other: where a mask changes, the kept classes change, and nowhere else."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(3, 24, 20)
    masks[0, 2:20, 3:18], masks[1, 5:15, 5:15], masks[2] = 1, 1, (torch.rand(24, 20, generator=generator) < 0.3).float()
    image = torch.rand(1, 24, 20) * 255
    (entry,) = kept(tmp_path, masks=True, clean=image, image=image, label=masks, prediction=masks[:, :, :].flip(0))
    for axis in (0, 1):
        changes = (np.diff(masks.numpy(), axis=axis + 1) != 0).any(0).T
        np.testing.assert_array_equal(np.diff(entry["label"].astype(int), axis=1 - axis) != 0, changes)
    np.testing.assert_array_equal(entry["label"] > 0, masks.any(0).numpy().T)


def test_a_lone_case_is_kept_and_shown_once(tmp_path):
    image, label = torch.rand(1, 24, 20) * 255, torch.zeros(1, 24, 20)
    label[0, 4:9, 4:9] = 1
    images = {"clean": image, "image": image, "label": label, "prediction": label}
    assert len(kept(tmp_path, cases=2, **images)) == 2
    (entry,) = kept(tmp_path, **images)
    assert entry["rank"] == "only" and [path.name for path in tmp_path.glob("*")] == ["bb-worst.npz"]
    (row,) = pictures(tmp_path, 8.0)
    assert row["score"] == "the only case · Dice .10"
    for rank in ("worst", "median"):  # as older galleries keep it
        np.savez(tmp_path / f"bb-{rank}.npz", **{**entry, "rank": rank})
    (row,) = pictures(tmp_path, 8.0, clean={("none", "c0"): 0.95})
    assert row["score"] == "the only case · Dice .95 → .10"


def test_a_case_without_a_score_is_passed_over(tmp_path):
    gallery, image = Gallery(tmp_path), torch.rand(1, 8, 8)
    gallery.start(ABOUT)
    gallery.offer("a", float("nan"), image, image, image > 2, image > 2)
    gallery.finish()
    assert list(tmp_path.iterdir()) == []


def test_the_largest_volume_of_a_network_that_was_barely_trained_fits(tmp_path):
    """Noise for a prediction, noise for an image, of four defences: the card stays below 3 MB."""
    rng = np.random.default_rng(0)
    shape = (90, 80, 70)
    for number, defense in enumerate(("none", "JPEG(85)", "FR(30,5,80)", "smoothing")):
        about = {"fingerprint": f"b{number}", "defense": defense, "adaptive": defense != "none"}
        noise = torch.as_tensor(rng.normal(0, 300, (1, *shape)), dtype=torch.float32)
        change = torch.as_tensor(rng.uniform(-8, 8, (1, *shape)), dtype=torch.float32)
        found = torch.as_tensor(rng.integers(0, 14, (1, *shape)))
        gallery = Gallery(tmp_path / "gallery")
        gallery.start({**ABOUT, **about})
        for case in "ab":
            gallery.offer(case, 0.1, noise, noise + change, found, found.flip(1))
        gallery.finish()
        told = {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "HU", **about}
        for name, values, more in ((f"a{number}", [0.9, 0.8], {"defense": defense}), (f"b{number}", [0.1, 0.1], told)):
            with RecordWriter(tmp_path / "records", name, {}) as writer:
                writer.add(frame(values, **{**more, "fingerprint": name}).to_dict("records"))
    card = build(tmp_path)
    assert card.stat().st_size < 3_000_000
    text = card.read_text(encoding="utf-8")
    volumes = [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)]
    assert len(volumes) + text.count("Left out to keep this file small") == 8 and volumes
    for told in volumes:
        arrays = [zlib.decompress(base64.b64decode(told[name])) for name in ("difference", "label", "prediction")]
        assert all(len(array) == np.prod(told["shape"]) for array in arrays)


def test_pictures_of_colour_fit_as_well(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        image = torch.as_tensor(rng.integers(0, 256, (3, 400, 300)), dtype=torch.float32)
        label = torch.as_tensor(rng.integers(0, 3, (1, 400, 300)))
        about = {"fingerprint": f"b{number}", "defense": f"defence {number}", "adaptive": True, "unit": "grey level"}
        kept(tmp_path, about=about, clean=image, image=image, label=label, prediction=label)
    rows = pictures(tmp_path, 8.0, room=500_000)
    assert len(rows) == 4 and sum(len(str(value)) for row in rows for value in row.values()) <= 500_000


def test_outlines_of_noise_are_bounded_and_keep_the_large_pieces():
    noise = (np.random.default_rng(0).random((300, 300)) < 0.5).astype(np.uint8)
    noise[100:200, 100:200] = 1
    drawn = outline(noise, "#fff")
    points = sum(path.count("L") + 1 for path in re.findall(r' d="([^"]+)"', drawn)[::2])
    assert points <= 3 * MOST_POINTS and len(drawn) < 120_000
    y, x = np.mgrid[:400, :400]
    disc = ((x - 200) ** 2 + (y - 180) ** 2 < 120**2).astype(np.uint8)
    assert len(outline(disc, "#fff")) < 2500


def test_a_simplified_line_stays_within_its_tolerance():
    """Against the distance of every point to every kept segment."""
    t = np.linspace(0, 2 * np.pi, 500)
    line = np.c_[50 * np.cos(t) + 3 * np.cos(9 * t), 40 * np.sin(t)]
    line[-1] = line[0]
    few = simplified(line, 0.5)
    assert len(few) < 120 and (few[0] == few[-1]).all()
    a, b = few[:-1, None], few[1:, None]
    share = np.clip(((line - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)[..., None]
    assert np.linalg.norm(a + share * (b - a) - line, axis=-1).min(0).max() <= 0.5 + 1e-9


def test_the_window_is_that_of_what_is_labelled():
    """Soft tissue in a CT of air and bone; grey levels as they are; what is constant does not break."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(5000, -1000.0), rng.normal(60, 15, 3000), rng.normal(700, 100, 500)])
    classes = np.concatenate([np.zeros(5000), np.ones(3000), np.zeros(500)])
    low, high = window(values, classes)
    assert -400 < low < 0 and 120 < high < 500
    assert window(np.array([0.0, 3.0, 254.0]), np.zeros(3)) == (0.0, 255.0)
    low, high = window(np.full(10, -7.0), np.zeros(10))
    assert high > low


@pytest.mark.parametrize(
    ("about", "limit", "said"),
    [
        ({"eps": 5.0, "unit": "HU"}, 5.0, "−5 … +5 HU"),
        ({"eps": 2.0, "unit": "% of the range"}, 3.0, "−3 … +3 in units of the image"),
        ({"eps": 40.0, "unit": "grey level in L2"}, 3.0, "×42, −3 … +3 grey levels"),
        ({"eps": float("inf"), "unit": "sigma"}, 3.0, "−3 … +3 σ"),
    ],
)
def test_the_scale_of_the_difference_is_in_units_of_the_image(tmp_path, about, limit, said):
    image = torch.rand(1, 10, 10, 10)
    label = torch.zeros(1, 10, 10, 10)
    (entry,) = kept(tmp_path, about=about, clean=image, image=image + 3, label=label, prediction=label)
    assert entry["limit"] == pytest.approx(limit, rel=1e-3)
    (row,) = pictures(tmp_path, about["eps"])
    assert row["scale"] == said


def test_an_affine_that_postprocessing_dropped_is_that_of_the_image(tmp_path):
    """Of equal voxels the picture is the same whichever of the three carries the affine; of unequal ones nothing is assumed."""
    where = affine((1.5, 1.0, 2.0))
    image, label = torch.rand(1, 12, 10, 8), torch.zeros(1, 12, 10, 8)
    label[0, 2:5, 1:3, 4:7] = 1
    placed = MetaTensor(image, affine=where), MetaTensor(label, affine=where)
    found = []
    for number, (x, y, z) in enumerate([(placed[0], label, label), (image, placed[1], label), (image, label, placed[1])]):
        (entry,) = kept(tmp_path / str(number), clean=image, image=x, label=y, prediction=z)
        found.append(entry)
    for entry in found:
        assert entry["spacing"].tolist() == [1.5, 1.0, 2.0]
        np.testing.assert_array_equal(entry["label"], label[0].numpy()[::-1, ::-1])
    (entry,) = kept(tmp_path / "odd", clean=image[..., :4], image=placed[0][..., :4], label=label, prediction=label)
    assert "nothing tells how they lie" in entry["left_out"]
