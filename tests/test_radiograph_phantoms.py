"""Phantom chest radiographs: files, anatomy, physics of the film, and patients with two pictures."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from monai_advdef.data import PHANTOMS, DataError, image_mask_pairs, write_lung_phantoms
from monai_advdef.phantoms.fields import Scene
from monai_advdef.phantoms.radiograph import finding_of, radiograph_case
from monai_advdef.phantoms.radiograph_body import LEFT, RIGHT, Plate, Thorax
from monai_advdef.phantoms.radiograph_film import develop, foreign_bodies

SMALL = ((128, 128), (120, 128))
CASES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("lung")
    write_lung_phantoms(root, cases=CASES, sizes=SMALL, seed=5)
    return root


@pytest.fixture(scope="module")
def cases(folder):
    """Picture, lungs and classes of every case."""
    pairs = image_mask_pairs(folder)
    return [(read(p["image"]), read(p["label"]), read(folder / "masks_multi" / f"{p['case']}.png")) for p in pairs]


def read(path):
    with Image.open(path) as file:
        return np.asarray(file)


def labels(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def plate_of(size=(128, 128), field=30.0, centre=(0.0, 0.0), turn=0.0):
    return Plate.of(Scene.of(np.random.default_rng(0), size), field, centre, turn)


def test_files_are_grey_pictures_with_masks(folder, cases):
    assert PHANTOMS["lung"] is write_lung_phantoms
    pairs = image_mask_pairs(folder)
    assert [pair["case"] for pair in pairs] == [f"phantom_{i:04d}" for i in range(CASES)]
    assert [Image.open(pair["image"]).format for pair in pairs[:4]] == ["JPEG", "JPEG", "JPEG", "PNG"]
    assert {Image.open(pair["image"]).mode for pair in pairs} == {"L"}
    assert {Image.open(pair["image"]).size for pair in pairs} == set(SMALL)
    for picture, lungs, classes in cases:
        assert picture.dtype == np.uint8 and picture.shape == lungs.shape == classes.shape
        assert set(np.unique(lungs)) == {0, 255} and set(np.unique(classes)) == {0, 1, 2, 3}
        np.testing.assert_array_equal(lungs > 0, (classes == 1) | (classes == 2))


def test_lungs_are_two_pieces_left_and_right_of_the_heart(cases):
    for _, lungs, classes in cases:
        assert ndimage.label(lungs)[1] == 2, "the lungs do not touch"
        left, right, heart = (ndimage.center_of_mass(classes == c) for c in (1, 2, 3))
        assert right[1] < heart[1] < left[1], "the left lung is on the right of the picture"
        assert np.flatnonzero((classes == 3).any(axis=1)).max() > left[0], "the heart reaches low"
        low = [np.flatnonzero((classes == c).any(axis=1)).max() for c in (1, 2)]
        assert abs(low[0] - low[1]) < 0.12 * len(classes)


def test_the_liver_lifts_the_right_dome():
    plate = plate_of()
    for seed in range(20):
        thorax = Thorax.of(np.random.default_rng(seed))
        tops = {side: thorax.diaphragm(np.abs(plate.u), side).min() for side in (LEFT, RIGHT)}
        assert tops[RIGHT] < tops[LEFT] - 0.3


def test_lungs_are_darker_than_the_mediastinum(cases):
    contrast = np.array([np.mean(picture[classes == 3]) - np.mean(picture[lungs > 0]) for picture, lungs, classes in cases])
    assert (contrast > 10).all() and np.median(contrast) > 50


def test_lungs_take_a_plausible_share_of_the_frame(cases):
    share = np.array([(lungs > 0).mean() for _, lungs, _ in cases])
    assert share.min() > 0.15 and share.max() < 0.48 and share.std() > 0.03


@pytest.mark.realdata
def test_shares_and_contrast_are_those_of_real_radiographs(cases):
    root = SHARED / "chest"
    if not root.is_dir():
        pytest.skip(f"no real radiographs in {root}")
    names = sorted(path.name for path in (root / "masks").iterdir())
    real = [(read(root / "images" / n), read(root / "masks" / n), read(root / "masks_multi" / n)) for n in names]

    def middle(measure):
        return (np.quantile([measure(*case) for case in group], (0.1, 0.9)) for group in (real, cases))

    for measure in (
        lambda picture, lungs, classes: (lungs > 0).mean(),
        lambda picture, lungs, classes: (classes == 3).mean() / (lungs > 0).mean(),
        lambda picture, lungs, classes: picture[classes == 3].mean() - picture[lungs > 0].mean(),
        lambda picture, lungs, classes: picture[lungs > 0].mean(),
    ):
        theirs, ours = middle(measure)
        assert ours[0] < theirs[1] and theirs[0] < ours[1], "the middle four fifths overlap"


def test_labels_name_patients_and_findings(folder):
    rows = labels(folder)
    assert [row["image"] for row in rows] == [path.name for path in sorted((folder / "images").iterdir(), key=lambda p: p.stem)]
    assert sorted(Counter(row["patient"] for row in rows).values()) == [1] * 8 + [2] * 8
    assert {row["finding"] for row in rows} == {"normal", "infiltrate"}
    assert len({(row["patient"], row["finding"]) for row in rows}) == 16, "one finding per patient"
    share = np.mean([finding_of(np.random.default_rng([1, i])) == "infiltrate" for i in range(1000)])
    assert share == pytest.approx(0.4, abs=0.05)


def test_an_infiltrate_brightens_a_lung(folder, cases):
    def unevenness(picture, lungs, classes):
        smooth = ndimage.gaussian_filter(picture.astype(float), 2)
        heart = classes == 3
        return np.quantile(smooth[ndimage.binary_erosion(lungs > 0, iterations=4)], 0.9) / smooth[heart].mean()

    values = np.array([unevenness(*case) for case in cases])
    sick = np.array([row["finding"] == "infiltrate" for row in labels(folder)])
    assert values[sick].mean() > values[~sick].mean()


def test_two_pictures_of_a_patient_share_the_anatomy_not_the_exposure(folder, cases):
    rows = labels(folder)
    same, other = [], []
    for i in range(1, CASES - 1, 3):
        assert rows[i]["patient"] == rows[i + 1]["patient"] != rows[i - 1]["patient"]
        (picture, lungs, _), (second, lungs_again, _) = cases[i], cases[i + 1]
        assert picture.shape == second.shape
        shift = [int(round(a - b)) for a, b in zip(ndimage.center_of_mass(lungs), ndimage.center_of_mass(lungs_again))]
        moved = np.roll(lungs_again, shift, (0, 1))
        same.append(dice(lungs > 0, moved > 0))
        assert np.abs(picture.astype(float) - np.roll(second, shift, (0, 1)))[lungs > 0].mean() > 3
        stranger = np.asarray(Image.fromarray(cases[i - 1][1]).resize(lungs.shape[::-1]))
        other.append(dice(lungs > 0, stranger > 0))
    assert min(same) > 0.9 and np.mean(same) > 0.95 > 0.92 > np.mean(other)


def test_a_case_depends_on_seed_and_index_alone(folder, tmp_path):
    few = write_lung_phantoms(tmp_path / "few", cases=4, sizes=SMALL, seed=5)
    for path in few:
        for part, name in (("images", path.name), ("masks", f"{path.stem}.png"), ("masks_multi", f"{path.stem}.png")):
            assert (tmp_path / "few" / part / name).read_bytes() == (folder / part / name).read_bytes()
    assert labels(tmp_path / "few") == labels(folder)[:4]
    (other,) = write_lung_phantoms(tmp_path / "other", cases=1, sizes=SMALL, seed=6)
    assert other.read_bytes() != few[0].read_bytes()


def test_an_interrupted_call_is_resumed(tmp_path, monkeypatch):
    from monai_advdef.phantoms import write as phantoms

    drawn = []

    def stops(patient, exposure, size):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(size)
        return radiograph_case(patient, exposure, size)

    monkeypatch.setattr(phantoms, "radiograph_case", stops)
    with pytest.raises(KeyboardInterrupt):
        write_lung_phantoms(tmp_path / "p", cases=4, sizes=SMALL)
    assert len(labels(tmp_path / "p")) == 4 and len(list((tmp_path / "p" / "images").iterdir())) == 2
    monkeypatch.undo()
    write_lung_phantoms(tmp_path / "p", cases=4, sizes=SMALL)
    write_lung_phantoms(tmp_path / "whole", cases=4, sizes=SMALL)
    for path in (path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        assert (tmp_path / "p" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_other_phantoms_are_not_mixed(tmp_path):
    write_lung_phantoms(tmp_path, cases=2, sizes=SMALL)
    with pytest.raises(DataError, match="'task': 'lung'.*overwrite=True"):
        PHANTOMS["skin"](tmp_path, cases=1)
    write_lung_phantoms(tmp_path, cases=1, sizes=SMALL, seed=3, overwrite=True)
    assert [len(list((tmp_path / part).iterdir())) for part in ("images", "masks", "masks_multi")] == [1, 1, 1]
    with pytest.raises(ValueError, match="at least 64 pixels"):
        write_lung_phantoms(tmp_path, sizes=[(32, 32)])
    with pytest.raises(ValueError, match="cases must be at least 1, got 0"):
        write_lung_phantoms(tmp_path, cases=0)


@settings(max_examples=25, deadline=None)
@given(st.floats(20, 45), st.floats(-3, 3), st.floats(-3, 3), st.floats(-0.2, 0.2))
def test_pixels_is_the_inverse_of_the_grid(field, right, down, turn):
    plate = plate_of((90, 70), field, (right, down), turn)
    points = np.stack([plate.u, plate.v], axis=-1).reshape(-1, 2).astype(float)
    grid = np.stack([plate.scene.x, plate.scene.y], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(plate.pixels(points), grid, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_lung_has_thickness_inside_its_outline_only_and_fits_into_the_body(seed):
    thorax, plate = Thorax.of(np.random.default_rng(seed)), plate_of((96, 96), 34.0)
    body = thorax.body(plate)
    for side in (LEFT, RIGHT):
        depth, thickness = thorax.lung(plate, side)
        assert (thickness[depth <= 0] == 0).all() and (thickness[depth > 1] > 0.5).all()
        assert (thickness <= body).all() and (side * plate.u[depth > 0] > 0).all()


def test_a_thicker_absorber_is_never_shown_darker():
    plate = plate_of((128, 128), 30.0)
    wedge = np.tile(np.linspace(0.5, 6, 8, dtype=np.float32).repeat(16), (128, 1))
    for seed in range(6):
        shown = develop(np.random.default_rng(seed), plate, wedge)[24:-24]
        middles = shown[:, 8 + 16 * np.arange(1, 7)].astype(float).mean(axis=0)
        assert (np.diff(middles) > -6).all() and middles[-1] > middles[0] + 30


def test_lead_letters_tell_the_side():
    plate, sides = plate_of((256, 256)), []
    for seed in range(30):
        lead = foreign_bodies(np.random.default_rng(seed), plate) > 4
        if lead.any():
            sides.append(ndimage.center_of_mass(lead)[1] > 128)
    assert 15 < len(sides) < 30 and 0.3 < np.mean(sides) < 0.9
