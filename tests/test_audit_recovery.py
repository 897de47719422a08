"""Unit, eps and range of someone else's images are recovered, or said to be none; without a gradient the local scale stands in."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    HistogramNormalized,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    ThresholdIntensityd,
)
from PIL import Image
from torch import nn

from monai_advdef import PreparedInferer, ThreatModel, Victim, run
from monai_advdef.attacks import FGSM
from monai_advdef.audit import AuditDataset, divided
from monai_advdef.audit.tail.dividing import split
from monai_advdef.audit.tail.recovery import recover
from monai_advdef.audit.tail.stated import of_dataset, of_metadata, of_words
from monai_advdef.errors import DataError

READ = [LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])]
WINDOW = ScaleIntensityRanged("image", -57, 164, 0, 1, clip=True)


def volumes(folder, low=-1000, high=1200, n=2, dtype=np.int16):
    """NIfTI files of ``n`` cases whose values span ``low`` to ``high``."""
    cases = []
    for i in range(n):
        drawn = np.random.default_rng(i)
        x = drawn.uniform(low, high, (12, 10, 9)).astype(dtype)
        x[0, 0, :2] = low, high
        x[:, :3] = 0 if low == 0 else x[:, :3]
        for name, values in (("image", x), ("label", (x > (low + high) / 2).astype(np.uint8))):
            nib.save(nib.Nifti1Image(values, np.diag([-1.0, 1, 1.5, 1])), folder / f"{name}{i}.nii.gz")
        cases.append({"case": f"case{i}", "image": str(folder / f"image{i}.nii.gz"), "label": str(folder / f"label{i}.nii.gz")})
    return cases


def looked_at(cases, chain, **known):
    whole = Compose([*READ, *chain])
    parts = split(whole)
    return recover(parts, AuditDataset(cases, whole, parts.head), **known), whole


def metadata(**image):
    return {"network_data_format": {"inputs": {"image": {"type": "image", **image}}}}


def test_a_window_of_hounsfield_units_is_recognised(tmp_path):
    found, _ = looked_at(volumes(tmp_path), [WINDOW])
    assert (found.unit, found.eps, found.value_range, found.relative, found.region) == ("HU", 8, (-1024, 3071), False, None)
    assert found.source == "window -57…164 of ScaleIntensityRange in the preprocessing" and found.notes == ()
    assert [f.value for f in found.facts()] == ["HU", "8 HU", "-1024 to 3071"]


def test_no_case_is_refused_for_lying_outside_a_range_that_nobody_gave(tmp_path):
    cases = volumes(tmp_path, -2048, 1200)
    found, whole = looked_at(cases, [WINDOW])
    assert found.value_range == "image" and "images reach -2048 to 1200, beyond -1024 to 3071 HU" in found.notes[0]
    for item in AuditDataset(cases, whole, divided(whole, **found.division()).head):
        ThreatModel(**found.threat()).around(item["image"][None].as_tensor())
    partly, _ = looked_at(volumes(tmp_path), [WINDOW], complete=False)
    assert partly.value_range == "image" and "not every case" in partly.notes[0]
    with pytest.raises(DataError, match=r"case0 spans -2048 to 1200 HU, outside --range -1024 3071"):
        looked_at(volumes(tmp_path, -2048, 1200), [WINDOW], value_range=(-1024, 3071))


@pytest.mark.parametrize(
    ("image", "unit"),
    [
        ({"format": "hounsfield", "modality": "CT"}, "HU"),
        ({"format": "hounsfield", "modality": "MRI"}, "σ"),
        ({"format": "magnitude", "modality": "MR"}, "σ"),
        ({"format": "RGB", "modality": "regular"}, "grey level"),
        ({"format": "magnitude"}, None),
        ({"modality": "n/a", "format": "hounsfield"}, "HU"),
    ],
)
def test_what_metadata_states(image, unit):
    found = of_metadata(metadata(**image))
    assert (None if found is None else found.unit) == unit


def test_a_format_that_is_copied_from_a_ct_is_believed_below_zero_alone(tmp_path):
    told = [of_metadata(metadata(format="hounsfield", modality="n/a"))]
    found, _ = looked_at(volumes(tmp_path, -1000, 900), [ScaleIntensityd("image")], stated=told)
    assert found.unit == "HU" and "format 'hounsfield'" in found.source
    found, _ = looked_at(volumes(tmp_path, 0, 900), [ScaleIntensityd("image")], stated=told)
    assert found.unit == "σ" and "no file says a unit" in found.source


def test_what_a_data_set_states():
    assert of_dataset({"modality": {"0": "CT"}}).unit == "HU"
    assert of_dataset({"channel_names": {"0": "T2", "1": "ADC"}}).source == "channel_names T2, ADC in dataset.json"
    assert of_dataset({"channel_names": {"0": "CT", "1": "PET"}}).unit == "% of range"
    assert of_dataset({"channel_names": {"0": "R", "1": "G"}}) is None and of_dataset(None) is None and of_metadata({}) is None
    assert [of_words(w) for w in ("octal", "contrast", "spectral CT", "MRI T1w", "histopathology")] == [
        "",
        "",
        "HU",
        "σ",
        "grey level",
    ]


def test_what_is_stated_is_believed_unless_files_or_values_say_otherwise(tmp_path):
    chain, told = [NormalizeIntensityd("image", nonzero=True)], [of_metadata(metadata(modality="CT"))]
    found, _ = looked_at(volumes(tmp_path, -200, 300), chain, stated=told)  # a body without the air around it
    assert (found.unit, found.source) == ("HU", "modality 'CT' of the network's input in metadata.json")
    found, _ = looked_at(volumes(tmp_path, 0, 900), chain, stated=told)
    assert found.unit == "σ" and "no file says" in found.source
    pictures = [{"image": torch.zeros(1, 4, 4), "fed": torch.zeros(1, 4, 4), "case": "a", "files": {"image": "a.png"}}]
    parts = split(Compose([ScaleIntensityd("image")]))
    assert recover(parts, pictures, stated=told).source == "files are pictures (.png)"


SIGMAS = [
    [NormalizeIntensityd("image", nonzero=True, channel_wise=True)],
    [Spacingd("image", (1, 1, 1)), NormalizeIntensityd("image", nonzero="True"), ScaleIntensityd("image", -1, 1)],
    [ScaleIntensityd("image"), Spacingd("image", (1, 1, 1))],
    [ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True)],
]


@pytest.mark.parametrize("chain", SIGMAS)
def test_mri_that_is_normalised_is_attacked_in_its_own_standard_deviations(tmp_path, chain):
    cases = volumes(tmp_path, 0, 900, dtype=np.float32)
    found, whole = looked_at(cases, chain, stated=[of_metadata(metadata(modality="MR"))])
    assert (found.unit, found.eps, found.value_range, found.region) == ("σ", 0.1, "image", "nonzero")
    parts = divided(whole, **found.division())
    for item, case in zip(AuditDataset(cases, whole, parts.head), cases):
        raw = nib.load(case["image"]).get_fdata()
        if not any(isinstance(t, Spacingd) for t in chain[:1]):
            assert np.allclose(item["image"].as_tensor()[0], raw / raw[raw != 0].std(), rtol=1e-5)
        parts.tail.require_equal(item["image"][None], item["fed"][None], item["case"])
        ThreatModel(**found.threat()).around(item["image"][None].as_tensor())


def test_mri_whose_brightness_counts_is_attacked_in_per_cent_of_its_range(tmp_path):
    chain = [ScaleIntensityRanged("image", 0, 1000, 0, 1)]
    found, _ = looked_at(volumes(tmp_path, 0, 900), chain, stated=[of_metadata(metadata(modality="MR"))])
    assert (found.unit, found.eps, found.value_range, found.relative) == ("% of range", 1, "image", True)
    with pytest.raises(DataError, match="asks how bright an image is as a whole"):
        looked_at(volumes(tmp_path, 0, 900), chain, unit="sigma")


@pytest.mark.parametrize(("top", "dtype", "eps"), [(255, np.uint8, 8), (60000, np.uint16, 8 * 257)])
def test_pictures_are_in_grey_levels_of_their_bits(tmp_path, top, dtype, eps):
    x = (np.arange(12 * 10).reshape(12, 10) * (top // 119)).astype(dtype)
    Image.fromarray(x).save(tmp_path / "a.png")
    chain = Compose([LoadImaged("image"), ScaleIntensityRanged("image", 0, top, 0, 1), EnsureChannelFirstd("image")])
    parts = split(chain)
    items = AuditDataset([{"case": "a", "image": str(tmp_path / "a.png")}], chain, parts.head, labelled=False)
    found = recover(parts, items)
    assert (found.unit, found.eps, found.value_range) == ("grey level", eps, (0, 255 if top == 255 else 65535))
    assert found.source == "files are pictures (.png)"


def test_what_nobody_states_is_said_to_be_read_from_the_values(tmp_path):
    found, _ = looked_at(volumes(tmp_path), [NormalizeIntensityd("image", subtrahend=10, divisor=100)])
    assert found.unit == "HU" and found.source == "values of -1000 to 1200; no file says it, give --unit where that is wrong"
    found, _ = looked_at(volumes(tmp_path, 0, 1, dtype=np.float32), [NormalizeIntensityd("image", subtrahend=0.5, divisor=0.1)])
    assert (found.unit, found.value_range, found.eps) == ("of the range", (0, 1), 8 / 255)
    told = [of_metadata(metadata(modality="CT"))]
    found, _ = looked_at(volumes(tmp_path, 0, 1, dtype=np.float32), [ScaleIntensityRanged("image", 0.2, 0.8, 0, 1)], stated=told)
    assert found.unit == "of the range" and "although modality 'CT'" in found.source


def test_what_is_given_goes_before_all(tmp_path):
    found, _ = looked_at(volumes(tmp_path, 0, 900), [WINDOW], unit="Bq/ml", eps=3, value_range=(0, 1000))
    assert (found.unit, found.eps, found.value_range, found.source) == ("Bq/ml", 3, (0, 1000), "given")
    assert looked_at(volumes(tmp_path), [WINDOW], unit="hounsfield", eps=2.5)[0].threat()["eps"] == 2.5
    for given, words in (
        ({"unit": "Bq/ml"}, "unit 'Bq/ml' has no default eps; give --eps"),
        ({"eps": 0}, "eps must be above 0 in HU"),
        ({"eps": 221}, "eps 221 HU is as wide as the window -57…164 that the network sees"),
        ({"unit": "σ", "value_range": (0, 1)}, "asks how bright"),
    ):
        with pytest.raises(DataError, match=words):
            looked_at(volumes(tmp_path), [WINDOW], **given)


class Detached:
    """Someone's scaling, without a gradient."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, data):
        return {
            **data,
            "image": MetaTensor(torch.as_tensor(np.asarray(data["image"].detach()) * self.factor)).copy_meta_from(data["image"]),
        }


@pytest.mark.parametrize(
    ("chain", "words", "scale"),
    [
        ([WINDOW, HistogramNormalized("image")], "HistogramNormalized is not known, and passes no gradient", None),
        ([Detached(0.004)], "Detached is not known, and passes no gradient", 0.004),
        ([Orientationd("image", "LPS"), Detached(2.0), Spacingd("image", (2, 2, 2))], "Detached", 2.0),
        (
            [ScaleIntensityRanged("image", -1024, 3071, 0, 1020), EnsureTyped("image", dtype=torch.int16)],
            "rounds to whole numbers",
            0.25,
        ),
        ([NormalizeIntensityd("image", 0, 50), Spacingd("image", (1, 1, 1), mode=3)], "Spacingd as it is set up passes", 0.02),
    ],
)
def test_without_a_gradient_the_attack_is_at_the_networks_input_in_the_images_units_by_the_local_scale(
    tmp_path, chain, words, scale
):
    cases = volumes(tmp_path)
    found, whole = looked_at(cases, chain, stated=[of_metadata(metadata(modality="CT"))])
    assert found.unit == "HU, at the network's input" and found.eps == 8 and found.value_range == "image"
    assert words in found.notes[0] and "the attack is at the network's input" in found.notes[0]
    assert scale is None or found.at_input == pytest.approx(scale, rel=0.05)
    parts = divided(whole, **found.division())
    item = AuditDataset(cases, whole, parts.head)[0]
    parts.tail.require_equal(item["image"][None], item["fed"][None])
    victim = Victim(nn.Conv3d(1, 2, 1), inferer=PreparedInferer(SimpleInferer(), parts.tail))
    x = item["image"][None].as_tensor()
    made = run(FGSM(), victim, ThreatModel(**found.threat()), x, torch.ones_like(x)).adversarial
    moved = (parts.tail(made) - parts.tail(x)).abs().max()
    assert float(moved) == pytest.approx(8 * found.at_input, rel=1e-3)
    assert json.dumps(found.threat()) and json.dumps(found.division())


def test_of_several_cases_the_local_scale_is_the_median_and_its_spread_is_told(tmp_path):
    def by_range(data):
        x = np.asarray(data["image"].detach())
        return {**data, "image": MetaTensor(torch.as_tensor(x / x.max())).copy_meta_from(data["image"])}

    cases = []
    for top in (100, 200, 400):
        folder = tmp_path / str(top)
        folder.mkdir()
        cases += [{**volumes(folder, 0, top, 1, np.float32)[0], "case": str(top)}]
    found, _ = looked_at(cases, [by_range], unit="HU", eps=1.0)
    assert found.at_input == pytest.approx(1 / 200, rel=0.05)
    low, high = map(float, re.search(r"median of its cases \((.*) to (.*)\)", found.notes[0]).groups())
    assert low == pytest.approx(1 / 400, rel=0.02) and high == pytest.approx(1 / 100, rel=0.02)


def test_a_threshold_keeps_the_unit_of_the_image(tmp_path):
    chain = [ThresholdIntensityd("image", -500, above=True, cval=-500), NormalizeIntensityd("image")]
    found, whole = looked_at(volumes(tmp_path), chain)
    assert found.unit == "HU" and found.at_input is None


def test_no_case_is_no_audit():
    with pytest.raises(DataError, match="no case to audit on"):
        recover(split([WINDOW]), [])
