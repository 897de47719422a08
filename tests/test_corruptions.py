"""Corruptions: the identity at severity 0, more harm with more severity, seeds, labels, types, and refusals in words."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from corruption_images import SPACING, corrupted, image, of_name
from corruption_table import table
from monai.data import MetaTensor

from monai_advdef import corruptions
from monai_advdef.corruptions import KINDS, SEVERITIES, UNITS, of
from monai_advdef.corruptions.scales import TOP
from monai_advdef.errors import DataError

NAMES = sorted(KINDS)
MOVING = ("Breathing", "Collimation", "XRayRotation")
IN_MM = [name for name in NAMES if KINDS[name].needs_spacing]


def change(name: str, severity: float) -> float:
    return float(np.sqrt(np.mean((corrupted(name, severity).astype(float) - of_name(name)) ** 2)))


def test_every_entry_of_the_table_is_a_transform_with_a_twin():
    assert set(KINDS) == set(SEVERITIES) and sum(len(of(m)) for m in UNITS) == len(SEVERITIES)
    for name, kind in KINDS.items():
        assert getattr(corruptions, name) is kind and issubclass(getattr(corruptions, f"{name}d"), corruptions.Corruptiond)
        scale = SEVERITIES[name]
        assert scale.source and scale.title and scale.parameters and scale.modality in UNITS


@pytest.mark.parametrize("name", NAMES)
def test_physical_values_grow_evenly_with_the_severity(name):
    for parameter in SEVERITIES[name].parameters:
        values = [parameter.at(s) for s in np.linspace(0, TOP, 21)]
        assert values[0] == parameter.none and values[4::4] == pytest.approx(parameter.levels)
        steps = np.diff(values[1:] if np.isinf(values[0]) else values)
        assert (steps > 0).all() or (steps < 0).all()
    told = KINDS[name](severity=2.5).parameters()
    assert all(value == SEVERITIES[name].parameters[i].at(2.5) for i, (value, _) in enumerate(told.values()))


def test_decibels_are_interpolated_by_amplitude():
    (noise,) = SEVERITIES["RicianNoise"].parameters
    assert 10 ** (-noise.at(1.5) / 20) == pytest.approx(0.02, rel=1e-3) and np.isinf(noise.at(0))
    assert SEVERITIES["RigidMotion"].told(3) == "4 mm, 4 degrees"


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_gives_back_what_came(name):
    given = MetaTensor(of_name(name), affine=np.diag([2.0, 2, 2, 1]))
    label = torch.ones(1, *given.shape[1:])
    back = KINDS[name](severity=0).both(given, label)
    assert back[0] is given and back[1] is label


@pytest.mark.parametrize("name", NAMES)
def test_change_grows_with_the_severity(name):
    changes = [change(name, s) for s in range(TOP + 1)]
    assert changes[0] == 0 and changes[-1] > 0
    assert all(more >= 0.97 * less for less, more in zip(changes, changes[1:])), changes  # edges cannot be more than displaced
    assert changes[-1] > 1.05 * changes[2]


@pytest.mark.parametrize("name", NAMES)
def test_unit_range_type_and_metadata_are_kept(name):
    given = of_name(name)
    made = corrupted(name, 5)
    assert made.dtype == given.dtype and made.shape == given.shape and np.isfinite(made).all()
    low, high = KINDS[name].own_range
    assert made.min() >= max(low, 0 if given.min() >= 0 else low) and made.max() <= high
    if (given == given.round()).all():
        assert (made == made.round()).all()
    meta = MetaTensor(given, affine=np.diag([SPACING, SPACING, SPACING, 1]), meta={"case": "a"})
    found = KINDS[name](severity=5)(meta)
    assert isinstance(found, MetaTensor) and found.meta["case"] == "a" and torch.equal(found.affine, meta.affine)
    np.testing.assert_array_equal(found.numpy(), made)
    plain = KINDS[name](severity=5, spacing=SPACING)(torch.from_numpy(given))
    assert type(plain) is torch.Tensor and np.array_equal(plain.numpy(), made)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_image_and_others_do_not(name):
    assert np.array_equal(corrupted(name), corrupted(name, seed=0))
    draws = {corrupted(name, seed=s).tobytes() for s in range(6)}
    assert len(draws) == (1 if name in CERTAIN else 6) or (name in COINS and len(draws) >= 2)


CERTAIN = (
    *("GibbsRinging", "SliceThickness", "CTSliceThickness", "Kernel", "Scatter"),
    *("Defocus", "ColourCast", "Vignette", "JPEGArtefacts", "LowResolution"),
)
COINS = ("CalibrationShift", "Exposure", "XRayRotation", "MissingSeries", "Ghosting", "Ruler")  # few outcomes


def test_images_draw_apart_from_each_other():
    """Two cases with one seed do not share their noise."""
    kind = KINDS["RicianNoise"](severity=3)
    one, two = (image("MRI", seed) for seed in (0, 1))
    noise = [(kind(x) - x)[0][x[0] > 0][:5000] for x in (one, two)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_labels_follow_the_geometry_and_nothing_else(name):
    given = of_name(name)
    label = np.zeros((1, *given.shape[1:]), np.int64)
    label[:, 8:30, 10:40] = 1 + np.arange(label[0, 8:30, 10:40].shape[-1]) % 2
    made, moved = KINDS[name](severity=5, spacing=SPACING, seed=3).both(given, label)
    assert moved.dtype == label.dtype and set(np.unique(moved)) <= {0, 1, 2}
    assert np.array_equal(moved, label) != (name in MOVING) and KINDS[name].moves == (name in MOVING)


@pytest.mark.parametrize("name", ["XRayRotation", "Breathing"])
def test_a_label_lies_where_its_object_lies_afterwards(name):
    kind = KINDS[name]
    low, high = kind.own_range
    shape = (1, 60, 48) if kind.dimensions == (2,) else (1, 12, 12, 60)
    mask = np.zeros(shape)
    mask[(slice(None), slice(4, 9), slice(5, 10), slice(20, 40)) if mask.ndim == 4 else np.s_[:, 15:35, 10:30]] = 1
    made, moved = kind(severity=4, seed=2, spacing=2.0).both(low + mask * (high - low), mask)
    seen = made > (low + high) / 2
    assert not np.array_equal(moved, mask) and (seen != (moved > 0)).sum() <= 0.02 * mask.sum()


def test_standardised_series_keep_background_mean_and_spread():
    raw = image("MRI")
    inside = raw > 0
    given = np.stack([np.where(m, (s - s[m].mean()) / s[m].std(), 0) for s, m in zip(raw, inside)]).astype(np.float32)
    for name in of("MRI"):
        made = KINDS[name](severity=4, spacing=SPACING, unit="σ")(given)
        assert (made[~inside] == 0).all() or name in ("MisregisteredSeries",)
        assert not np.array_equal(made, given)
        if name not in ("MissingSeries", "MisregisteredSeries"):
            for s, m in zip(made, inside):
                assert s[m].mean() == pytest.approx(0, abs=1e-3) and s[m].std() == pytest.approx(1, abs=1e-3)


def test_a_twin_corrupts_images_and_labels_under_their_keys():
    given, label = of_name("XRayRotation"), np.ones((1, 60, 48), bool)
    twin = corruptions.XRayRotationd("image", "label", severity="4", seed=1)  # type: ignore[attr-defined]
    made = twin({"image": given, "label": label, "case": "a"})
    expected = KINDS["XRayRotation"](severity=4, seed=1).both(given, label)
    assert np.array_equal(made["image"], expected[0]) and np.array_equal(made["label"], expected[1]) and made["case"] == "a"
    assert made["label"].dtype == bool and not made["label"].all()
    again = pickle.loads(pickle.dumps(twin))({"image": given, "label": label})
    assert np.array_equal(again["image"], made["image"])
    with pytest.raises(KeyError, match="image"):
        twin({"label": label})


@pytest.mark.parametrize("severity", [-0.1, 5.01, "many", None, float("nan"), True])
def test_a_severity_outside_0_to_5_is_refused(severity):
    with pytest.raises(ValueError, match="severity must be a number"):
        KINDS["Dose"](severity=severity)


@pytest.mark.parametrize("name", IN_MM)
def test_missing_spacing_is_refused_in_words(name):
    given = of_name(name)
    for without in (given, MetaTensor(given), MetaTensor(given, affine=np.zeros((4, 4)))):
        with pytest.raises(DataError, match=rf"{name} is in mm.*give spacing="):
            KINDS[name](severity=1)(without)
    with pytest.raises(ValueError, match="spacing must be 3 numbers > 0 in mm"):
        KINDS[name](severity=1, spacing=(1, 1))(given)


def test_spacing_comes_from_the_affine_of_the_axes_as_they_lie():
    turned = np.array([[0, 0, 3.0, 5], [0.5, 0, 0, 5], [0, 1, 0, 5], [0, 0, 0, 1]])
    given = of_name("Kernel")
    made = KINDS["Kernel"](severity=4)(MetaTensor(given, affine=turned))
    np.testing.assert_allclose(made.numpy(), KINDS["Kernel"](severity=4, spacing=(0.5, 1, 3))(given), atol=1e-4)


@pytest.mark.parametrize("name", ["SliceThickness", "CTSliceThickness", "Breathing", "Kernel"])
def test_a_volume_thinner_than_what_acts_on_it_is_refused(name):
    thin = of_name(name)[..., :2] if name != "Kernel" else of_name(name)[:, :1]
    with pytest.raises(DataError, match=r"mm acts along .*mm in all; give the whole volume"):
        KINDS[name](severity=5, spacing=1.0)(thin)
    flat = of_name(name)[..., 0]
    if name != "Kernel":
        with pytest.raises(DataError, match="is for 3D images"):
            KINDS[name](severity=1, spacing=1.0)(flat)


def test_a_label_on_another_grid_is_refused():
    with pytest.raises(DataError, match=r"label has shape \(30, 24\) and the image \(60, 48\)"):
        KINDS["Collimation"]().both(image("x-ray"), np.zeros((1, 30, 24)))


REFUSED = {
    "CT in σ": (lambda: KINDS["Dose"](unit="σ"), "Dose is a corruption of CT, whose images are in HU, and this image is in σ"),
    "photo in HU": (lambda: KINDS["Hairs"](unit="HU"), "take one of its own modality .*CT: Dose, Kernel"),
    "CT in [0, 1]": (lambda: KINDS["Dose"]()(image("photo")[:1] / 255), "too little for HU"),
    "photo in [0, 1]": (lambda: KINDS["Exposure"]()(image("photo") / 255), r"give value_range=\(0, 1\)"),
    "above the range": (lambda: KINDS["Exposure"]()(image("photo") * 2), r"outside value_range \(0\.0, 255\.0\)"),
    "a range that falls": (lambda: KINDS["Exposure"](value_range=(255, 0)), "low < high"),
    "MRI below 0": (lambda: KINDS["Spikes"](unit="signal")(image("MRI") - 9), "give unit='σ'"),
    "σ up to 300": (lambda: KINDS["Spikes"](unit="σ")(image("MRI")), "give unit='signal'"),
    "grey photo": (lambda: KINDS["Exposure"]()(np.repeat(image("x-ray"), 3, 0)), "the three channels of this image are the same"),
    "one channel": (lambda: KINDS["Exposure"]()(image("x-ray")), "three channels, and this image has 1"),
    "colour film": (lambda: KINDS["Scatter"]()(image("photo")), "3 channels that differ"),
    "one series": (lambda: KINDS["MissingSeries"]()(image("MRI")[:1]), "one series of several"),
    "NaN": (lambda: KINDS["Spikes"]()(np.full((1, 9, 9), np.nan)), "NaN"),
    "seed": (lambda: KINDS["Spikes"](seed=-1), "seed must be a whole number"),
    "name": (lambda: corruptions.named_corruption("RigidMotoin"), "did you mean 'RigidMotion'"),
    "disc": (lambda: KINDS["Defocus"](severity=5)(image("photo")[:, :8, :8]), "does not fit into"),
    "3D photo": (lambda: KINDS["Defocus"]()(np.zeros((3, 9, 9, 9))), "is for 2D images"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_contradictions_are_refused_in_words(what):
    make, words = REFUSED[what]
    with pytest.raises(ValueError, match=words):
        make()


def test_an_image_in_another_range_is_corrupted_alike():
    given = image("photo")
    in_grey, in_range = (
        KINDS[n](severity=3, value_range=r, unit=u)(x)
        for n, r, u, x in (
            ("Vignette", (0, 255), "grey level", given + 0.25),
            ("Vignette", (0, 1), "of the range", (given + 0.25) / 255),
        )
    )
    np.testing.assert_allclose(in_grey / 255, in_range, atol=1e-5)


def test_the_page_has_the_table_of_the_code():
    page = Path(__file__).parents[1] / "workflows" / "corruptions" / "README.md"
    assert page.read_text(encoding="utf-8").endswith(table()), "write it anew with table() of corruption_table.py"
