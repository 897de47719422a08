"""Promise 4: the result after rounding to stored integers and a trip through a file stands beside the float result."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from checked import Threshold, halves, verdict
from PIL import Image

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.checks.stored import form, round_trip
from monai_advdef.checks.subject import make_subject

FRAGILE = Victim(Threshold(101.8))  # 102 is foreground, 101.6 is not, and no file of integers holds 101.6
PICTURE = ThreatModel(eps=0.4)
VOLUME = ThreatModel(eps=0.4, value_range=(-1000, 1000), unit="HU")


@pytest.mark.parametrize(("size", "threat", "kind"), [((8, 8), PICTURE, "PNG"), ((8, 8, 8), VOLUME, "NIfTI")], ids=["PNG", "NIfTI"])
def test_an_attack_that_no_file_keeps_is_suspect_with_both_numbers(size, threat, kind):
    found = verdict("Stored", FRAGILE, threat, *halves(*size))
    assert found.verdict == "suspect" and kind in found.evidence
    assert found.numbers["float32"] == pytest.approx(1) and found.numbers["file"] == pytest.approx(0)
    assert "1.000 in float32 and 0.000 read back" in found.evidence


def test_one_that_files_keep_is_ok(victim, cases):
    found = verdict("Stored", victim, ThreatModel(eps=8.0), cases[0][:2], cases[1][:2])
    assert found.verdict == "ok" and found.numbers["float32"] > 0.2
    assert found.numbers["file"] == pytest.approx(found.numbers["float32"], abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_pillow_reads_them(tmp_path, channels):
    x = 255 * torch.rand(2, channels, 7, 9, generator=torch.Generator().manual_seed(0))
    subject = make_subject(Victim(Threshold(1.0)), ThreatModel(), x, torch.zeros(2, 1, 7, 9))
    kind, step = form(subject)
    assert kind == "PNG"
    for case, read in zip(x, round_trip(x, torch.zeros(1, channels, 1, 1), step, kind)):
        pixels = np.rint(case.numpy().transpose(1, 2, 0)).astype(np.uint8)
        Image.fromarray(pixels.squeeze()).save(tmp_path / "x.png")
        known = np.asarray(Image.open(tmp_path / "x.png")).reshape(7, 9, channels).transpose(2, 0, 1)
        assert np.array_equal(read.numpy(), known)


def test_volumes_come_back_as_nibabel_reads_them_and_scaled_ones_on_12_bits(tmp_path):
    x = 2000 * torch.rand(1, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0)) - 1000
    nib.save(nib.Nifti1Image(np.rint(x[0, 0].numpy()).astype(np.int16), np.eye(4)), tmp_path / "x.nii")
    low = torch.full((1, 1, 1, 1, 1), -1000.0)
    read = round_trip(x, low, torch.ones_like(low), "NIfTI")
    assert np.array_equal(read[0, 0].numpy(), nib.load(tmp_path / "x.nii").get_fdata())
    scaled = ThreatModel(eps=0.1, value_range=(-5, 5), unit="sigma")
    kind, step = form(make_subject(Victim(Threshold(0.0)), scaled, x / 200, torch.zeros(1, 1, 4, 5, 6)))
    assert kind == "NIfTI" and step.flatten().tolist() == pytest.approx([10 / 4095])


def test_images_that_the_evaluation_left_are_those_that_are_written():
    image, label = halves(8, 8)
    lost = run(PGD(steps=5), FRAGILE, ThreatModel(eps=4.0), image, label).adversarial
    assert verdict("Stored", FRAGILE, ThreatModel(eps=4.0), image, label, adversarial=image).numbers["float32"] == 0
    assert verdict("Stored", FRAGILE, ThreatModel(eps=4.0), image, label, adversarial=lost).numbers["file"] == pytest.approx(1)
