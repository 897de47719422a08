"""Phantom fundus photographs: files, anatomy, and a diagnosis that the cup/disc ratio tells, though not always."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from monai_advdef.data import PHANTOMS, DataError, check_folder, dataset, write_fundus_phantoms
from monai_advdef.data.datasets import data_set_pairs
from monai_advdef.phantoms.fields import Scene
from monai_advdef.phantoms.fundus import Eye
from monai_advdef.phantoms.fundus_camera import field_of_view
from monai_advdef.phantoms.fundus_vessels import Vessels

SMALL = ((150, 128), (128, 128))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("fundus")
    write_fundus_phantoms(root, cases=28, sizes=SMALL, seed=5)
    return root


def read(path):
    with Image.open(path) as file:
        return np.asarray(file)


def labels(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def height(mask):
    return int(np.ptp(np.flatnonzero(mask.any(axis=1)))) + 1


def test_files_are_a_checked_data_set(folder):
    assert PHANTOMS["fundus"] is write_fundus_phantoms
    found = dataset("fundus", folder)
    for pairs in found.values():
        assert {pair["diagnosis"] for pair in pairs} == {"normal", "glaucoma"}
    assert sum(map(len, found.values())) == 28 and not check_folder(folder).problems
    pairs = data_set_pairs("fundus", folder)
    assert {Image.open(pair["image"]).format for pair in pairs} == {"JPEG", "PNG"}
    assert {Image.open(pair["image"]).size for pair in pairs} == set(SMALL)


def test_disc_and_cup_are_single_bright_round_pieces(folder):
    discs, cups = [], []
    for pair in data_set_pairs("fundus", folder):
        image, disc, cup = read(pair["image"]).astype(float).mean(2), read(pair["label"]) > 0, read(pair["cup"]) > 0
        assert not (cup & ~disc).any() and cup.sum() < disc.sum()
        for mask in (disc, cup):
            assert ndimage.label(mask)[1] == 1 and (ndimage.binary_fill_holes(mask) == mask).all()
            box = mask[np.ix_(mask.any(1), mask.any(0))]
            assert 0.6 < box.mean() < 0.9, "about pi / 4: an ellipse"
        assert not disc[[0, -1]].any() and not disc[:, [0, -1]].any(), "wholly inside the picture"
        around = ndimage.binary_dilation(disc, iterations=12) & ~ndimage.binary_dilation(disc, iterations=4)
        discs.append(np.median(image[disc]) - np.median(image[around]))
        cups.append(np.median(image[cup]) - np.median(image[disc & ~cup]))
    assert np.mean(np.array(discs) > 8) > 0.85 and np.mean(np.array(cups) > 0) > 0.8
    assert np.median(discs) > 25 and np.median(cups) > 8


def test_discs_vary_in_place_and_size(folder):
    pairs = data_set_pairs("fundus", folder)
    masks = [read(pair["label"]) > 0 for pair in pairs]
    centres = np.array([np.array(ndimage.center_of_mass(mask)) / mask.shape for mask in masks])
    assert centres[:, 1].std() > 0.08 and centres[:, 0].std() > 0.02
    heights = np.array([height(mask) / len(mask) for mask in masks])
    assert 0.10 < heights.min() < 0.19 and 0.2 < heights.max() < 0.32


def test_the_labels_tell_the_ratio_that_was_drawn(folder):
    pairs = data_set_pairs("fundus", folder)
    rows = labels(folder)
    assert [row["image"].split(".")[0] for row in rows] == [pair["case"] for pair in pairs]
    drawn = np.array([float(row["vertical_cup_disc_ratio"]) for row in rows])
    measured = np.array([height(read(pair["cup"]) > 0) / height(read(pair["label"]) > 0) for pair in pairs])
    np.testing.assert_allclose(measured, drawn, atol=0.1)
    assert np.corrcoef(measured, drawn)[0, 1] > 0.97


def test_the_ratio_separates_the_diagnoses_with_an_overlap():
    eyes = [Eye.of(np.random.default_rng([1, i])) for i in range(3000)]
    sick = np.array([eye.diagnosis == "glaucoma" for eye in eyes])
    ratio = np.array([eye.cup_disc_ratio for eye in eyes])
    auc = stats.mannwhitneyu(ratio[sick], ratio[~sick]).statistic / (sick.sum() * (~sick).sum())
    assert 0.87 < auc < 0.94 and 0.4 < sick.mean() < 0.6
    assert ratio.min() >= 0.3 and ratio.max() <= 0.9
    near = np.abs(ratio - 0.65) < 0.03
    assert 0.35 < sick[near].mean() < 0.65, "even odds in the middle"


def test_pictures_are_orange_fields_in_the_dark(folder):
    for pair in data_set_pairs("fundus", folder):
        image = read(pair["image"]).astype(float)
        corners = np.concatenate([image[:3, :3], image[-3:, :3]]).reshape(-1, 3)
        assert corners.mean() < 25
        inner = image[40:-40, 40:-40].reshape(-1, 3).mean(0)
        assert inner[0] > inner[1] > inner[2] and inner[0] > 50


def test_the_field_is_round_and_may_have_a_notch():
    notches = 0
    for seed in range(12):
        inside, radius = field_of_view(Scene.of(np.random.default_rng(seed), (150, 128)))
        assert inside.min() == 0 and inside.max() == 1 and inside[64, 75] == 1 and not inside[0, 0]
        y, x = np.mgrid[:128, :150]
        circle = np.hypot(x - 75, y - 64) < radius
        notches += bool(((inside > 0.5) & ~ndimage.binary_dilation(circle, iterations=3)).any())
        assert (inside > 0.5)[ndimage.binary_erosion(circle, iterations=3)].all()
    assert 0 < notches < 12


@pytest.mark.parametrize("temporal", [-1, 1])
def test_vessels_leave_the_disc_up_and_down_and_thin_out(temporal):
    vessels = Vessels(np.random.default_rng(0), reach=100.0, thinnest=0.5)
    curves = vessels.tree(np.array([200.0, 150.0]), calibre=4.0, spread=1.0, temporal=temporal)
    points = np.concatenate([curve[0] for curve in curves])
    assert points[:, 1].min() < 100 and points[:, 1].max() > 200
    width = {True: [], False: []}
    for path, thickness, opacity in curves:
        assert thickness > 0.2 and 0 < opacity <= 1
        width[bool(np.hypot(*(path.mean(0) - (200, 150))) > 60)].append(thickness)
    assert max(width[True]) < max(width[False]) <= 4.0 * 1.1 and len(curves) > 30
    mirrored = Vessels(np.random.default_rng(0), reach=100.0, thinnest=0.5).tree(np.array([200.0, 150.0]), 4.0, 1.0, -temporal)
    np.testing.assert_allclose(mirrored[5][0][:, 0] - 200, 200 - curves[5][0][:, 0])


def test_a_case_depends_on_seed_and_index_alone(folder, tmp_path):
    few = write_fundus_phantoms(tmp_path / "few", cases=2, sizes=SMALL, seed=5)
    for path in few:
        for part, name in (("images", path.name), ("masks", f"{path.stem}.png"), ("masks_cup", f"{path.stem}.png")):
            assert (tmp_path / "few" / part / name).read_bytes() == (folder / part / name).read_bytes()
    assert labels(tmp_path / "few") == labels(folder)[:2]
    (other,) = write_fundus_phantoms(tmp_path / "other", cases=1, sizes=SMALL, seed=6)
    assert other.read_bytes() != few[0].read_bytes()


def test_an_interrupted_call_is_resumed_and_the_labels_are_complete(tmp_path, monkeypatch):
    from monai_advdef.phantoms import write as phantoms

    drawn = []

    def stops(rng, size):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(size)
        return original(rng, size)

    original = phantoms.fundus_case
    monkeypatch.setattr(phantoms, "fundus_case", stops)
    with pytest.raises(KeyboardInterrupt):
        write_fundus_phantoms(tmp_path / "p", cases=4, sizes=SMALL)
    with pytest.raises(DataError, match="no image is called"):
        dataset("fundus", tmp_path / "p")
    monkeypatch.undo()
    write_fundus_phantoms(tmp_path / "p", cases=4, sizes=SMALL)
    write_fundus_phantoms(tmp_path / "whole", cases=4, sizes=SMALL)
    for path in (path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        assert (tmp_path / "p" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    write_fundus_phantoms(tmp_path / "p", cases=5, sizes=SMALL)
    assert len(labels(tmp_path / "p")) == len(data_set_pairs("fundus", tmp_path / "p")) == 5


def test_other_phantoms_are_not_mixed(tmp_path):
    write_fundus_phantoms(tmp_path, cases=1, sizes=SMALL)
    with pytest.raises(DataError, match="'task': 'fundus'.*overwrite=True"):
        PHANTOMS["skin"](tmp_path, cases=1)
    with pytest.raises(ValueError, match="at least 64 pixels"):
        write_fundus_phantoms(tmp_path, sizes=[(32, 32)])
