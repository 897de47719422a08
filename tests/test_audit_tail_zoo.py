"""Preprocessings in the shapes of published bundles, on real files: recovered, equal to their own output, attacked."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import list_data_collate
from monai.inferers import SimpleInferer
from monai.transforms import (
    AsDiscreted,
    CastToTyped,
    Compose,
    ConcatItemsd,
    ConvertToMultiChannelBasedOnBratsClassesd,
    CopyItemsd,
    CropForegroundd,
    DeleteItemsd,
    DivisiblePadd,
    EnsureChannelFirstd,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    ScaleIntensityd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    SelectItemsd,
    Spacingd,
    SpatialPadd,
    ToTensord,
)
from PIL import Image
from torch import nn

from monai_advdef import PreparedInferer, ThreatModel, Victim, run
from monai_advdef.attacks import FGSM
from monai_advdef.audit import AuditDataset, divided
from monai_advdef.audit.tail.dividing import split
from monai_advdef.audit.tail.recovery import recover

BOTH = ["image", "label"]
READ = [LoadImaged(BOTH), EnsureChannelFirstd(BOTH)]
PLACED = [*READ, Orientationd(BOTH, "RAS"), Spacingd(BOTH, (1.1, 1.0, 1.5), mode=("bilinear", "nearest"))]
PICTURES = [LoadImaged(BOTH, reader="PILReader"), EnsureChannelFirstd("image", channel_dim=-1), EnsureChannelFirstd("label")]


def scaled(low, high, to_low=0.0, to_high=1.0, clip=True):
    return ScaleIntensityRanged("image", low, high, to_low, to_high, clip=clip)


CT = {
    "spleen": [*PLACED, scaled(-57, 164), EnsureTyped(BOTH)],
    "organs": [*PLACED, scaled(-175, 250), CropForegroundd(BOTH, "image"), EnsureTyped(BOTH, track_meta=True)],
    "cropped as it is read": [*READ, CropForegroundd(BOTH, "image", lambda x: x > -500), *PLACED[2:], scaled(-250, 400)],
    "lungs": [*READ, scaled(-1000, 1000, -1, 1, clip=False), Spacingd(BOTH, (2, 2, 2), mode=("bilinear", "nearest"))],
    "searched": [*PLACED, scaled(-87, 199), CropForegroundd(BOTH, "image"), CastToTyped(BOTH, [torch.float32, torch.uint8])],
    "half": [
        *PLACED,
        scaled(-87, 199),
        CastToTyped(BOTH, [np.float16, np.uint8]),
        EnsureTyped(BOTH),
        CastToTyped("image", torch.float32),
        SpatialPadd(BOTH, (20, 20, 20), mode=["reflect", "constant"]),
    ],
    "liver": [*READ, scaled(-500, 500), Resized(BOTH, (12, 12, 12), mode=("trilinear", "nearest")), ToTensord(BOTH)],
    "copied": [*READ, CopyItemsd("image", 1, "kept"), scaled(-57, 164), DeleteItemsd("kept"), SelectItemsd(BOTH)],
    "padded": [*READ, scaled(-57, 164), SpatialPadd(BOTH, (20, 20, 20)), DivisiblePadd(BOTH, 16)],
}
MR = {
    "brain": [*READ, NormalizeIntensityd("image", nonzero=True, channel_wise=True), EnsureTyped(BOTH)],
    "whole body": [*PLACED, NormalizeIntensityd("image", nonzero="True"), ScaleIntensityd("image", minv=-1.0, maxv=1.0)],
    "prostate": [
        *PLACED,
        ScaleIntensityd("image", minv=0, maxv=1),
        NormalizeIntensityd("image"),
        ResizeWithPadOrCropd(BOTH, (16, 16, 8)),
    ],
    "heart": [*READ, ScaleIntensityd("image"), Resized(BOTH, (12, 12, 8), mode=("area", "nearest"))],
    "percentiles": [*READ, ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True, channel_wise=True)],
}
GREY = {
    "nuclei": [*PICTURES, scaled(0, 255)],
    "tools": [*PICTURES, Resized(BOTH, (16, 20), mode=("bilinear", "nearest")), ScaleIntensityRanged(BOTH, 0, 255, 0, 1)],
    "own scaling": [
        *PICTURES,
        Lambdad("image", lambda x: x / 255.0),
        NormalizeIntensityd("image", [0.5] * 3, [0.2] * 3, channel_wise=True),
    ],
    "scaled, then turned": [*PICTURES, scaled(0, 255), Resized(BOTH, (16, 20)), AsDiscreted("label", threshold=0.5)],
}


def volumes(folder, low, high, channels=1):
    cases = []
    for i in range(2):
        drawn = np.random.default_rng(i)
        case = {"case": str(i), "image": [], "label": str(folder / f"label{i}.nii.gz")}
        for c in range(channels):
            x = np.full((14, 15, 10), low, dtype=np.float32 if low == 0 else np.int16)
            x[2:12, 3:13, 1:9] = drawn.uniform(0.1 * high if low == 0 else -300, high, (10, 10, 8))
            case["image"].append(str(folder / f"image{i}_{c}.nii.gz"))
            nib.save(nib.Nifti1Image(x, np.diag([-1.0, 1, 2, 1])), case["image"][-1])
        nib.save(nib.Nifti1Image((x > high / 2).astype(np.uint8), np.diag([-1.0, 1, 2, 1])), case["label"])
        cases.append({**case, "image": case["image"][0] if channels == 1 else case["image"]})
    return cases


def pictures(folder):
    x = np.random.default_rng(0).integers(0, 256, (17, 19, 3)).astype(np.uint8)
    Image.fromarray(x).save(folder / "a.png")
    Image.fromarray((x[..., 0] > 128).astype(np.uint8) * 255).save(folder / "a_label.png")
    return [{"case": "a", "image": str(folder / "a.png"), "label": str(folder / "a_label.png")}]


def attacked(chain, cases, **known):
    """What is recovered, and by how much FGSM then moves images and the network's input, at most."""
    whole = Compose(chain)
    parts = split(whole)
    found = recover(parts, AuditDataset(cases, whole, parts.head), **known)
    parts = divided(whole, **found.division())
    moves = []
    for item in AuditDataset(cases, whole, parts.head):
        batch = list_data_collate([item])
        parts.tail.require_equal(batch["image"], batch["fed"], batch["case"])
        image, label = (torch.as_tensor(batch[k]).as_subclass(torch.Tensor) for k in ("image", "label"))
        network = {4: nn.Conv2d, 5: nn.Conv3d}[image.ndim](batch["fed"].shape[1], 2, 1)
        victim = Victim(network, inferer=PreparedInferer(SimpleInferer(), parts.tail))
        made = run(FGSM(), victim, ThreatModel(**found.threat()), image, (label[:, :1] > 0).float()).adversarial
        assert float((made - image).abs().max()) == pytest.approx(found.eps, rel=1e-3)
        moves.append(float((parts.tail(made) - batch["fed"].as_subclass(torch.Tensor)).abs().max()))
    assert min(moves) > 0
    return found, moves


@pytest.mark.parametrize("name", CT)
def test_ct_is_attacked_in_hu(name, tmp_path):
    found, moves = attacked(CT[name], volumes(tmp_path, -1000, 1200))
    assert (found.unit, found.eps, found.value_range, found.notes) == ("HU", 8, (-1024, 3071), ())
    t = next(t for t in CT[name] if isinstance(t, ScaleIntensityRanged)).scaler
    assert max(moves) == pytest.approx(8 * (t.b_max - t.b_min) / (t.a_max - t.a_min), rel=0.05)


@pytest.mark.parametrize("name", MR)
@pytest.mark.parametrize("channels", [1, 3])
def test_mri_is_attacked_in_its_standard_deviations(name, channels, tmp_path):
    found, moves = attacked(MR[name], volumes(tmp_path, 0, 900, channels))
    assert (found.unit, found.eps, found.value_range) == ("σ", 0.1, "image")
    if name == "brain":
        assert max(moves) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("name", GREY)
def test_pictures_are_attacked_in_grey_levels(name, tmp_path):
    found, moves = attacked(GREY[name], pictures(tmp_path))
    assert (found.unit, found.eps, found.value_range) == ("grey level", 8, (0, 255))
    assert max(moves) == pytest.approx(8 / 255 / (0.2 if name == "own scaling" else 1), rel=0.05)


def test_series_under_keys_of_their_own_are_joined_behind_their_scaling(tmp_path):
    cases = [{**case, **dict(zip(("t1", "t2"), case["image"]))} for case in volumes(tmp_path, 0, 900, 2)]
    keys = ["t1", "t2", "label"]
    chain = [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        NormalizeIntensityd(["t1", "t2"], nonzero=True),
        SpatialPadd(keys, (16, 16, 16)),
        ConcatItemsd(["t1", "t2"], "image"),
        ConvertToMultiChannelBasedOnBratsClassesd("label"),
    ]
    found, _ = attacked(chain, cases)
    assert found.unit == "σ"


class OwnJoin(MapTransform):
    """Someone's own, with its keys under names of its own, and arrays as what it leaves."""

    def __init__(self, merged, out, factor=1):
        self.merged, self.out, self.factor = merged, out, factor

    def __call__(self, data):
        return {**data, self.out: self.factor * np.concatenate([np.asarray(data[k]) for k in self.merged])}


@pytest.mark.parametrize("factor", [1, 2])
def test_scans_that_a_class_of_ones_own_joins(factor, tmp_path):
    """It is taken for no more than a joining, and where it does more the attack is at the network's input."""
    cases = [{**case, **dict(zip(("artery", "vein"), case["image"]))} for case in volumes(tmp_path, -1000, 900, 2)]
    keys = ["artery", "vein", "label"]
    window = ScaleIntensityRanged(keys[:2], -1000, 1000, 0, 1, clip=True)
    found, moves = attacked([LoadImaged(keys), EnsureChannelFirstd(keys), window, OwnJoin(keys[:2], "image", factor)], cases)
    assert found.unit == ("HU" if factor == 1 else "HU, at the network's input")
    if factor == 1:
        assert (found.eps, found.notes) == (8, ()) and max(moves) == pytest.approx(8 / 2000, rel=0.05)
    else:
        assert "differ from MONAI's own" in found.notes[0]


def test_scans_joined_as_arrays_lie_where_they_lay(tmp_path):
    cases = [{**case, **dict(zip(("artery", "vein"), case["image"]))} for case in volumes(tmp_path, -1000, 900, 2)]
    keys = ["artery", "vein", "label"]
    chain = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), Spacingd(keys, (1, 1, 1)), OwnJoin(keys[:2], "image")])
    item = AuditDataset(cases, chain, split(chain).head)[0]
    for image in (item["image"], item["fed"]):
        assert image.shape[0] == 2 and image.meta["filename_or_obj"] == cases[0]["artery"]
        assert torch.equal(image.affine, item["artery"].affine) and image.applied_operations
