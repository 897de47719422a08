"""Predictions and labels on the grid of their files, against the geometry of the files read by nibabel and worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    ConcatItemsd,
    ConvertToMultiChannelBasedOnBratsClassesd,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    Flipd,
    Invertd,
    LoadImaged,
    MapLabelValued,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    RandGridDistortiond,
    Resized,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
    SqueezeDimd,
    ToTensord,
    Transposed,
)
from PIL import Image

from monai_advdef.audit.dataset import AsDeployed, AuditDataset
from monai_advdef.audit.scoring.grid import OnFileGrid
from monai_advdef.audit.scoring.label_files import LabelFiles
from monai_advdef.audit.scoring.scores import GridHandler
from monai_advdef.errors import DataError

BOTH = ["image", "label"]
SHAPE = (22, 26, 18)
OBLIQUE = np.array([[-0.9, 0.2, 0.15, 12], [0.17, 1.05, -0.4, -20], [0.1, 0.25, 2.2, 33], [0, 0, 0, 1]])


def world(shape: tuple[int, ...], affine: Any) -> np.ndarray:
    """Place (3, \\*S) in mm of every voxel."""
    index = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    return np.einsum("ij,jxyz->ixyz", np.asarray(affine, float), index)[:3]


CENTRE = world(SHAPE, OBLIQUE)[:, 11, 13, 9]


def shapes(place: np.ndarray) -> np.ndarray:
    """Class 1: an ellipsoid; class 2: a ball beside it; what a perfect network would say of places in mm."""
    one = (((place - CENTRE[:, None, None, None]) / np.array([8, 9, 11])[:, None, None, None]) ** 2).sum(0) < 1
    two = ((place - CENTRE[:, None, None, None] - np.array([0, 6, 5])[:, None, None, None]) ** 2).sum(0) < 30
    return np.where(two, 2, np.where(one, 1, 0))


def write(folder: Path, affine: Any = OBLIQUE, values: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    classes = shapes(world(SHAPE, affine))
    image = classes * 100.0 + np.random.default_rng(0).normal(20, 5, SHAPE)
    for name, array in (("scan", image.astype(np.float32)), ("mask", np.asarray(values, np.int16)[classes])):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return {"case": "a", "image": str(folder / "scan.nii.gz"), "label": str(folder / "mask.nii.gz")}


def loading(keys: Any = BOTH) -> list[Any]:
    return [LoadImaged(keys), EnsureChannelFirstd(keys)]


def perfect(fed: MetaTensor, classes: int = 3) -> torch.Tensor:
    """Logits of a network that knows where in the patient each voxel lies."""
    truth = torch.from_numpy(shapes(world(tuple(fed.shape[1:]), fed.affine)))
    return 8.0 * torch.nn.functional.one_hot(truth.long(), classes).movedim(-1, 0).float() - 4


def scored(
    entry: dict[str, Any], chain: Any, own: Any = None, *, logits: Any = None, names: Any = ("one", "two"), **how: Any
) -> Any:
    data = AuditDataset([entry], chain, chain)[0]
    labels = LabelFiles([entry], chain, own, classes=names, **how)
    data["pred"] = perfect(data["fed"]) if logits is None else logits(data["fed"])
    return OnFileGrid(AsDeployed(own), chain, labels, classes=names, **how)(data)


def dice(a: Any, b: Any) -> float:
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    return 2 * (a & b).sum() / (a.sum() + b.sum())


FLIP = [Orientationd(BOTH, axcodes="RAS", labels=None), Flipd(BOTH, 1)]
CUT = [CropForegroundd(BOTH, source_key="image", select_fn=lambda x: x > 60, margin=3), SpatialPadd(BOTH, (30, 28, 24))]
FINE = [Spacingd(BOTH, pixdim=(0.7, 0.8, 1.4), mode=("bilinear", "nearest"))]
INTENSITY = [ScaleIntensityRanged("image", 0, 255, 0, 1, clip=True)]
HARD = [AsDiscreted("pred", argmax=True)]
ONE_HOT = [Activationsd("pred", softmax=True), AsDiscreted(BOTH[1:] + ["pred"], argmax=[False, True], to_onehot=3)]


@pytest.mark.parametrize("own", [None, HARD, ONE_HOT, [Activationsd("pred", softmax=True)]], ids=["none", "map", "onehot", "soft"])
@pytest.mark.parametrize(
    ("moving", "least"),
    [([], 1.0), (FLIP, 1.0), (FLIP + CUT, 1.0), (FLIP + CUT + INTENSITY + [SpatialPadd(BOTH, (36, 36, 36))], 1.0)]
    + [(FLIP + FINE + CUT, 0.92), ([ResizeWithPadOrCropd(BOTH, (26, 20, 18))] + INTENSITY, 1.0)],
    ids=["still", "flip", "cut", "tail", "fine", "resize-crop"],
)
def test_a_perfect_network_is_perfect_on_the_file(tmp_path, moving, least, own):
    entry = write(tmp_path)
    out = scored(entry, Compose(loading() + moving), None if own is None else Compose(own))
    file = nib.load(entry["label"])
    truth = np.asarray(file.dataobj)
    assert out["label"].shape == (1, *SHAPE) and np.array_equal(out["label"][0].numpy(), truth)
    assert out["pred"].shape == (1, *SHAPE) and np.allclose(out["pred"].affine, file.affine)
    outside = [ResizeWithPadOrCropd] if any(isinstance(t, ResizeWithPadOrCropd) for t in moving) else []
    if not outside:
        for k in (1, 2):
            assert dice(out["pred"][0] == k, truth == k) >= least
    else:  # what the crop cut away is background
        assert not out["pred"][0, :, :3].any() and not out["pred"][0, :, -3:].any()
        assert np.array_equal(out["pred"][0, :, 3:-3].numpy(), truth[:, 3:-3])
    assert out["own_pred"].shape == out["own_label"].shape and out["own_pred"].dtype == torch.uint8


def test_the_nearest_voxel_is_that_of_the_geometry(tmp_path):
    """Each voxel of the file gets the class of the network's voxel in which its centre lies, by the two affines alone."""
    entry, chain = write(tmp_path), Compose(loading() + FLIP + FINE)
    fed = AuditDataset([entry], chain, chain)[0]["fed"]
    noise = torch.randint(0, 3, (1, *fed.shape[1:]), generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.one_hot(noise[0], 3).movedim(-1, 0).float()
    out = scored(entry, chain, Compose(HARD), logits=lambda fed: logits)
    place = np.linalg.inv(fed.affine.numpy()) @ np.concatenate([world(SHAPE, OBLIQUE).reshape(3, -1), np.ones((1, np.prod(SHAPE)))])
    at = np.rint(place[:3]).astype(int)
    clear = (np.abs(place[:3] - np.floor(place[:3]) - 0.5) > 1e-3).all(0)
    inside = clear & ((at >= 0) & (at < np.array(fed.shape[1:])[:, None])).all(0)
    assert inside.mean() > 0.9
    assert np.array_equal(out["pred"].numpy().reshape(-1)[inside], noise[0].numpy()[tuple(at[:, inside])])


def test_what_the_bundle_has_inverted_stays_and_the_label_is_the_files_own(tmp_path):
    """The shape of a published bundle: its own postprocessing resamples the label to and fro."""
    entry, chain = write(tmp_path), Compose(loading() + FLIP + [Spacingd(BOTH, (2.5, 2.5, 4), mode=("bilinear", "nearest"))])
    invert = Invertd(["pred", "label"], transform=chain, orig_keys=BOTH, nearest_interp=[False, True])
    own = Compose([Activationsd("pred", softmax=True), invert, AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)])
    out = scored(entry, chain, own)
    truth = np.asarray(nib.load(entry["label"]).dataobj)
    assert np.array_equal(out["label"][0].numpy(), truth)
    assert torch.equal(out["own_pred"], out["pred"].as_tensor())  # as the bundle left it
    assert out["own_label"].shape[1:] == SHAPE and not np.array_equal(out["own_label"][0].numpy(), truth)  # to and fro


def test_a_postprocessing_that_leaves_the_label_on_another_grid(tmp_path):
    """As `inference` files do, which know no labels: then the network's grid is what both are kept on."""
    entry, chain = write(tmp_path), Compose(loading() + FLIP + FINE)
    own = Compose([Activationsd("pred", softmax=True), Invertd("pred", chain, "image", nearest_interp=False), *HARD])
    out = scored(entry, chain, own)
    assert out["pred"].shape == out["label"].shape == (1, *SHAPE)
    assert out["own_pred"].shape == out["own_label"].shape != (1, *SHAPE)


def test_scores_are_interpolated_before_the_highest_is_taken(tmp_path):
    """And in parts: of many classes the same as all at once, by MONAI's own Invertd."""
    entry, chain = write(tmp_path), Compose(loading() + FLIP + [Spacingd(BOTH, (2, 2, 3), mode=("bilinear", "nearest"))])
    names = [f"c{k}" for k in range(1, 21)]
    made = {}

    def logits(fed: MetaTensor) -> torch.Tensor:
        made["x"] = torch.randn(21, *fed.shape[1:], generator=torch.Generator().manual_seed(0))
        return made["x"]

    out = scored(entry, chain, None, logits=logits, names=names)
    fed = AuditDataset([entry], chain, chain)[0]["fed"]
    whole = Invertd("pred", chain, "image", nearest_interp=False)({"pred": MetaTensor(made["x"]), "image": fed})["pred"]
    assert torch.equal(out["pred"].as_tensor()[0].long(), whole.as_tensor().argmax(0))


@pytest.mark.parametrize(
    "own", [None, [Activationsd("pred", sigmoid=True)], [Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]]
)
def test_regions_that_overlap(tmp_path, own):
    """A sigmoid head; what the crop cut away is background, though the sigmoid of 0 is a half."""
    entry = write(tmp_path, values=(0, 2, 4))
    chain = Compose(loading() + [ConvertToMultiChannelBasedOnBratsClassesd("label")] + FLIP + CUT + INTENSITY)
    place = lambda fed: torch.from_numpy(shapes(world(tuple(fed.shape[1:]), fed.affine)))  # noqa: E731
    sets = ([2], [1, 2], [2])  # MONAI: tumour core {1, 4}, whole tumour {1, 2, 4}, enhancing {4}
    regions = lambda c: torch.stack([torch.isin(torch.as_tensor(c), torch.tensor(s)) for s in sets]).float()  # noqa: E731
    out = scored(
        entry,
        chain,
        None if own is None else Compose(own),
        logits=lambda fed: 8 * regions(place(fed)) - 4,
        names=["core", "whole", "enhancing"],
        activation="sigmoid",
    )
    truth = regions(shapes(world(SHAPE, OBLIQUE)))
    assert out["label"].shape == (3, *SHAPE) and torch.equal(out["label"].as_tensor().float(), truth)
    assert torch.equal(out["pred"].as_tensor().float(), truth)


def test_values_are_mapped_as_the_bundle_maps_them(tmp_path):
    entry = write(tmp_path, values=(0, 7, 205))
    mapping = [MapLabelValued("label", [0, 7, 205], [0, 2, 1])]
    truth = np.asarray(nib.load(entry["label"]).dataobj)
    for chain in (loading() + mapping + FLIP, loading() + FLIP + mapping):
        label = scored(entry, Compose(chain))["label"]
        assert np.array_equal(label[0].numpy() == 2, truth == 7) and np.array_equal(label[0].numpy() == 1, truth == 205)
    after = LabelFiles([entry], Compose(loading() + FLIP), Compose(mapping), classes=["one", "two"])({"case": "a"})
    assert np.array_equal(after, label)
    with pytest.raises(DataError, match=r"mask\.nii\.gz, the label of case 'a': the label holds class 205, known are 0\.\.2"):
        LabelFiles([entry], Compose(loading()), classes=["one", "two"])({"case": "a"})


class Kidneys(MapTransform):
    """A transform of a bundle's own that asks for every key, and looks at the image."""

    def __call__(self, data: Any) -> dict[str, Any]:
        found = {key: data[key] for key in self.keys}
        return {**data, "label": found["label"] * (found["image"].max() > 0)}


def test_a_transform_of_the_bundles_own_gets_the_image_too(tmp_path):
    entry = write(tmp_path)
    out = scored(entry, Compose([*loading(), Kidneys(BOTH), *FLIP]))
    assert (
        np.array_equal(out["label"][0].numpy(), np.asarray(nib.load(entry["label"]).dataobj))
        and dice(out["pred"], out["label"]) == 1
    )


def test_images_put_together_from_several_files(tmp_path):
    """The operations are those of the first of them, which stand under its own name."""
    entry = write(tmp_path)
    entry = {"case": "a", "t1": entry["image"], "t2": entry["image"], "label": entry["label"], "image": entry["image"]}
    keys = ["t1", "t2", "label"]
    moving = [
        Orientationd(keys, axcodes="LPS", labels=None),
        Spacingd(keys, (0.8, 0.8, 1.2), mode=("bilinear", "bilinear", "nearest")),
    ]
    out = scored(entry, Compose([*loading(keys), *moving, ConcatItemsd(["t1", "t2"], "image"), NormalizeIntensityd("image")]))
    assert dice(out["pred"][0] == 1, np.asarray(nib.load(entry["label"]).dataobj) == 1) > 0.97


def test_old_habits_of_bundles(tmp_path):
    """`ToTensord`, whose inverse makes arrays of tensors, stands behind the resampling."""
    entry = write(tmp_path)
    out = scored(entry, Compose([*loading(), *FLIP, *FINE, EnsureTyped(BOTH), ToTensord(BOTH)]))
    assert dice(out["pred"][0] == 1, np.asarray(nib.load(entry["label"]).dataobj) == 1) > 0.97


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_pictures_have_no_affine(tmp_path, suffix):
    yy, xx = np.mgrid[:40, :64]
    mask = ((yy - 18) ** 2 + (xx - 40) ** 2 < 120).astype(np.uint8) * 255
    for name, array in (("i", np.stack([255 - mask] * 3, -1)), ("m", mask)):
        Image.fromarray(array).save(tmp_path / f"{name}.{suffix}")
    entry = {"case": "p", "image": str(tmp_path / f"i.{suffix}"), "label": str(tmp_path / f"m.{suffix}")}
    chain = Compose(
        [
            *loading(),
            ScaleIntensityRanged(BOTH, 0, 255, 0, 1),
            Flipd("image", 0),
            Flipd("label", 0),
            Resized(BOTH, (96, 96), mode=("bilinear", "nearest")),
        ]
    )

    def logits(fed: MetaTensor) -> torch.Tensor:
        return torch.cat([fed[:1].as_tensor() - 0.5, 0.5 - fed[:1].as_tensor()])

    out = scored(entry, chain, None, logits=logits, names=["lesion"])
    assert np.array_equal(out["label"][0].numpy(), mask.T // 255) and out["pred"].shape == (1, 64, 40)
    assert dice(out["pred"][0], mask.T) > 0.97


def test_a_label_whose_axes_are_stored_otherwise_is_turned(tmp_path):
    entry = write(tmp_path)
    turned = nib.as_closest_canonical(nib.load(entry["label"]))
    assert not np.allclose(turned.affine, OBLIQUE)
    nib.save(turned, entry["label"])
    out = scored(entry, Compose(loading() + FLIP))
    assert np.array_equal(out["label"][0].numpy(), shapes(world(SHAPE, OBLIQUE))) and np.array_equal(out["pred"], out["label"])


@pytest.mark.parametrize("wrong", ["shape", "affine"])
def test_a_label_on_another_grid_names_both_files(tmp_path, wrong):
    entry = write(tmp_path)
    classes, moved = shapes(world(SHAPE, OBLIQUE)).astype(np.uint8), OBLIQUE.copy()
    moved[0, 3] += 4.0 * (wrong == "affine")
    nib.save(nib.Nifti1Image(classes if wrong == "affine" else classes[:-2], moved), entry["label"])
    with pytest.raises(DataError, match=r"mask\.nii\.gz and .*scan\.nii\.gz are not on the same grid: (shape|corners)"):
        scored(entry, Compose(loading() + FLIP + [ResizeWithPadOrCropd(BOTH, (24, 24, 24))]))


def test_what_cannot_be_scored_is_said(tmp_path):
    entry = write(tmp_path)
    with pytest.raises(ValueError, match="RandGridDistortiond of the preprocessing moves voxels and has no inverse"):
        scored(entry, Compose([*loading(), RandGridDistortiond("image", prob=0.0)]))
    with pytest.raises(DataError, match="case 'b' has no 'label' in the data list"):
        LabelFiles([entry], Compose(loading()), classes=["one", "two"])({"case": "b"})
    gone = {**entry, "label": str(tmp_path / "gone.nii.gz")}
    with pytest.raises(DataError, match=r"gone\.nii\.gz, the label of case 'a', does not exist"):
        LabelFiles([gone], Compose(loading()), classes=["one", "two"])({"case": "a"})
    Path(entry["label"]).write_bytes(Path(entry["label"]).read_bytes()[:200])
    with pytest.raises(DataError, match=r"mask\.nii\.gz, the label of case 'a', cannot be read"):
        LabelFiles([entry], Compose(loading()), classes=["one", "two"])({"case": "a"})


def test_channels_last_arrays(tmp_path):
    """A transposition that brings the channel to the front moves no voxel; one of the axes does."""
    image = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    mask = np.zeros((20, 30, 1), np.uint8)
    mask[4:9, 5:25] = 1
    np.save(tmp_path / "i.npy", image)
    np.save(tmp_path / "m.npy", mask)
    entry = {"case": "n", "image": str(tmp_path / "i.npy"), "label": str(tmp_path / "m.npy")}
    load = [LoadImaged(BOTH, reader="NumpyReader"), Transposed(BOTH, (2, 0, 1))]
    for more in ([], [Transposed(BOTH, (0, 2, 1))]):
        chain = Compose(load + more)

        def logits(fed: MetaTensor, turned: bool = bool(more)) -> torch.Tensor:
            found = torch.from_numpy(mask[..., 0].T if turned else mask[..., 0]).float()
            return torch.stack([0.5 - found, found - 0.5])

        out = scored(entry, chain, None, logits=logits, names=["x"])
        assert np.array_equal(out["label"][0].numpy(), mask[..., 0]) and np.array_equal(out["pred"], out["label"])


def test_pictures_show_what_lies_on_the_grid_of_the_attacked_image(tmp_path):
    """Where a preprocessing resamples behind its scaling, the attacked image has the voxels before that."""
    entry = write(tmp_path)
    head = loading() + FLIP
    chain = Compose([*head, *INTENSITY, Spacingd(BOTH, (1.5, 1.6, 2.9), mode=("bilinear", "nearest"))])
    data = AuditDataset([entry], chain, Compose(head))[0]
    data["pred"] = perfect(data["fed"])
    names = ["one", "two"]
    out = OnFileGrid(AsDeployed(None), chain, LabelFiles([entry], chain, classes=names), classes=names)(data)
    assert out["network_pred"].shape != out["shown_pred"].shape == out["image"].shape
    truth = shapes(world(SHAPE, out["image"].affine))
    for name in ("shown_pred", "shown_label"):
        assert dice(out[name][0] == 1, truth == 1) > 0.85
    assert not [k for k in scored(entry, Compose(head)) if k.startswith("shown")]


def renamed(key: str) -> str:
    return {"image": "ct", "label": "seg", "pred": "out"}.get(key, key)


@pytest.mark.parametrize("inverted", [False, True])
def test_keys_of_other_names(tmp_path, inverted):
    entry = {renamed(k): v for k, v in write(tmp_path).items()}
    keys = ["ct", "seg"]
    cut = CropForegroundd(keys, source_key="ct", select_fn=lambda x: x > 60, margin=3)
    chain = Compose([*loading(keys), Orientationd(keys, axcodes="PIR", labels=None), cut, ScaleIntensityRanged("ct", 0, 255, 0, 1)])
    back = [Invertd("out", chain, "ct", nearest_interp=False)] if inverted else []
    own = Compose([Activationsd("out", softmax=True), *back, AsDiscreted("out", argmax=True)])
    data = AuditDataset([entry], chain, chain, image_key="ct", label_key="seg")[0]
    data["pred"] = perfect(data["fed"])
    names = ["one", "two"]
    labels = LabelFiles([entry], chain, own, classes=names, image_key="ct", label_key="seg")
    deployed = AsDeployed(own, image_key="ct", label_key="seg", pred_key="out")
    out = OnFileGrid(deployed, chain, labels, classes=names)(data)
    truth = np.asarray(nib.load(entry["seg"]).dataobj)
    assert np.array_equal(out["label"][0].numpy(), truth) and np.array_equal(out["pred"][0].numpy(), truth)
    assert set(out["left"]) == {"ct", "seg", "out"}


@pytest.mark.parametrize("shape", [(30, 24), (30, 24, 1)])
def test_planes_in_volume_files(tmp_path, shape):
    """A NIfTI file of one plane, also as a volume one voxel thick whose last axis the bundle takes away."""
    mask = np.zeros(shape, np.uint8)
    mask[6:20, 8:15] = 1
    affine = np.diag([-0.7, 0.9, 1.0, 1.0])
    for name, array in (("i", 100.0 * mask), ("m", mask)):
        nib.save(nib.Nifti1Image(array.astype(np.float32 if name == "i" else np.uint8), affine), tmp_path / f"{name}.nii.gz")
    entry = {"case": "s", "image": str(tmp_path / "i.nii.gz"), "label": str(tmp_path / "m.nii.gz")}
    flat = [SqueezeDimd(BOTH, dim=-1)] if len(shape) == 3 else []
    chain = Compose([*loading(), *flat, Flipd(BOTH, 0), Resized(BOTH, (60, 48), mode=("bilinear", "nearest"))])

    def logits(fed: MetaTensor) -> torch.Tensor:
        return torch.cat([50 - fed.as_tensor(), fed.as_tensor() - 50])

    out = scored(entry, chain, None, logits=logits, names=["x"])
    assert out["label"].shape == (1, 30, 24) and np.array_equal(out["label"][0].numpy(), mask.reshape(30, 24))
    assert dice(out["pred"][0], mask.reshape(30, 24)) > 0.95
    values = GridHandler(["x"]).measure(out["pred"], out["label"])
    assert values["x", "structure_mm2"] == pytest.approx(0.63 * mask.sum())
