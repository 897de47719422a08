"""MRI series normalised, labels mapped, volumes saved on the grid and in the labels of the file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted, Compose, EnsureTyped, Invertd, SaveImaged
from mri_files import GLIOMA, LPS, SHAPE, data_set, loading, save, volumes

from monai_advdef.data import (
    BiasCorrectionN4d,
    DataError,
    LoadSeriesd,
    MapLabelsd,
    NormalizeSeriesd,
    OrderSeriesd,
    UnmapLabelsd,
    dataset,
    subject_items,
)
from monai_advdef.data.mri import n4


@pytest.fixture
def root(tmp_path):
    return data_set(tmp_path / "set")


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR"])
def test_what_is_saved_lies_on_the_grid_and_in_the_labels_of_the_file(tmp_path, codes):
    """A network that is always right, through data loader, inverse orientation and MONAI's writer, checked with nibabel."""
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(codes))
    tilt = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.05, -0.2))
    for name in "abcd":
        for role, voxels in volumes(ord(name)).items():
            image = nib.Nifti1Image(voxels, tilt @ LPS).as_reoriented(turn)
            save(tmp_path / "set" / name / f"{role}.nii.gz", np.asarray(image.dataobj), image.affine)
    items = dataset("glioma", tmp_path / "set", test_only=True)["test"]
    steps = loading()
    batch = next(iter(DataLoader(Dataset(items, steps), batch_size=4)))
    assert batch["image"].shape == (4, 4, *SHAPE) and batch["label"].shape == (4, 1, *SHAPE)
    assert batch["image"].dtype == torch.float32 and set(batch["label"].unique().tolist()) == {0, 1, 2, 3}
    batch["pred"] = one_hot(torch.as_tensor(batch["label"].numpy()), 4)
    place = {"output_dir": tmp_path / "out", "data_root_dir": tmp_path / "set", "separate_folder": False, "output_postfix": "pred"}
    back = Compose(
        [
            EnsureTyped(keys="pred"),
            Invertd(keys="pred", transform=steps, orig_keys="image", nearest_interp=False),
            AsDiscreted(keys="pred", argmax=True),
            UnmapLabelsd(keys="pred"),
            SaveImaged(keys="pred", resample=False, output_dtype=np.uint8, print_log=False, **place),
        ]
    )
    for item in decollate_batch(batch):
        back(item)
    for name in "abcd":
        saved, seg = nib.load(tmp_path / "out" / name / "t1_pred.nii.gz"), nib.load(tmp_path / "set" / name / "seg.nii.gz")
        assert np.allclose(saved.affine, seg.affine, atol=1e-4) and nib.aff2axcodes(saved.affine) == tuple(codes)
        assert saved.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(saved.dataobj), np.asarray(seg.dataobj))


def test_series_are_normalised_as_numpy_does(root):
    item = subject_items(root, GLIOMA)[0]
    data = NormalizeSeriesd(keys="image", clip=1.5)(LoadSeriesd(keys="image")(item))
    for number, path in enumerate(item["image"]):
        voxels = np.asarray(nib.load(path).dataobj, float)
        inside = voxels[voxels != 0]
        meant = np.where(voxels != 0, np.clip((voxels - inside.mean()) / inside.std(), -1.5, 1.5), 0)
        assert np.allclose(data["image"][number].numpy(), meant, atol=1e-5)
        assert data["image"].meta["series_mean"][number] == pytest.approx(inside.mean(), rel=1e-6)
        assert data["image"].meta["series_std"][number] == pytest.approx(inside.std(), rel=1e-6)


def test_normalising_leaves_its_input_alone_and_forgets_scale_and_offset():
    raw = torch.rand(4, 6, 5, 4, generator=torch.Generator().manual_seed(0)).clamp_(min=0.2).where(torch.arange(4) > 0, 0)
    kept, normalise = raw.clone(), NormalizeSeriesd(keys="image")
    one = normalise({"image": raw})["image"]
    other = normalise({"image": (raw * 700).to(torch.float64)})["image"]
    assert torch.equal(raw, kept) and torch.allclose(one, other, atol=1e-5) and one.dtype == other.dtype == torch.float32


@pytest.mark.parametrize(
    ("value", "told"), [(float("nan"), "60 NaN"), (0.0, "series 2 of 3, .*one value"), (3.0, "series 2 of 3, .*one value")]
)
def test_series_that_cannot_be_normalised(value, told):
    image = torch.rand(3, 3, 4, 5) + 1
    image[1] = value
    with pytest.raises(DataError, match=f"head.nii.*{told}"):
        NormalizeSeriesd(keys="image")({"image": MetaTensor(image, meta={"filename_or_obj": "head.nii"})})


@given(
    values=st.lists(st.integers(0, 9), min_size=2, max_size=5, unique=True),
    picks=st.lists(st.integers(0, 99), min_size=8, max_size=8),
    kind=st.sampled_from([torch.uint8, torch.int64, torch.float32]),
)
@settings(max_examples=30, deadline=None)
def test_labels_go_there_and_back(values, picks, kind):
    classes = torch.tensor([pick % len(values) for pick in picks]).reshape(1, 2, 2, 2)
    stored = torch.tensor(values)[classes].to(kind)
    for case, options in ({}, {"values": values}), ({"label_values": [torch.tensor(value) for value in values]}, {}):
        mapped = MapLabelsd(keys="label", **options)({"label": stored, **case})
        assert torch.equal(mapped["label"].long(), classes) and mapped["label"].dtype == kind
        assert torch.equal(UnmapLabelsd(keys="label", **options)(mapped)["label"], stored)


def test_labels_and_orders_that_do_not_fit():
    label = MetaTensor(torch.tensor([[[[0.0, 3.0]]]]), meta={"filename_or_obj": "seg.nii"})
    with pytest.raises(DataError, match="seg.nii holds the label 3; known are 0, 1, 2, 4"):
        MapLabelsd(keys="label")({"label": label})
    with pytest.raises(DataError, match="seg.nii holds the label 3; known are 0, 1, 2:"):
        UnmapLabelsd(keys="label", values=[0, 5, 6])({"label": label})
    with pytest.raises(ValueError, match="different numbers"):
        MapLabelsd(keys="label", values=[0, 1, 1])
    with pytest.raises(ValueError, match="clip must be above 0"):
        NormalizeSeriesd(keys="image", clip=0)
    with pytest.raises(DataError, match="has 2 series where 4 are expected"):
        OrderSeriesd(keys="image")({"image": torch.zeros(2, 1, 1, 1), "series_order": (1, 2, 3, 0)})


def test_n4_takes_out_a_smooth_field():
    """Two tissues under a field of a factor of two from side to side: within each, the spread falls to less than a third."""
    pytest.importorskip("SimpleITK")
    x, y, z = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (40, 36, 32)), indexing="ij")
    head, bright = (x**2 + y**2 + z**2) < 0.9, (torch.sin(9 * x) * torch.sin(9 * y) * torch.sin(9 * z)) > 0
    flat = torch.where(bright, 200.0, 100.0) * head
    corrected = BiasCorrectionN4d(keys="image", shrink=2)({"image": (flat * torch.exp2(0.5 * x + 0.3 * y * y))[None]})["image"][0]
    assert torch.equal(corrected != 0, head)
    for tissue in (head & bright, head & ~bright):
        before = (torch.exp2(0.5 * x + 0.3 * y * y))[tissue]
        assert corrected[tissue].std() / corrected[tissue].mean() < before.std() / before.mean() / 3


def test_n4_says_what_it_cannot_do(monkeypatch):
    pytest.importorskip("SimpleITK")
    with pytest.raises(DataError, match="negative or NaN voxels in channel 0; .* before normalising"):
        BiasCorrectionN4d(keys="image")({"image": -torch.ones(1, 4, 4, 4)})
    with pytest.raises(ValueError, match="shrink must be at least 1"):
        BiasCorrectionN4d(keys="image", shrink=0)
    monkeypatch.setattr(n4, "INSTALLED", False)
    with pytest.raises(ImportError, match="needs SimpleITK.*pip install SimpleITK"):
        BiasCorrectionN4d(keys="image")
