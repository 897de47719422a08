"""Attacked volumes written next to those that were read: geometry, type and untouched voxels as nibabel and SimpleITK see them."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd

from monai_advdef.data import LoadSeriesd, NormalizeSeriesd, OrderSeriesd, StandardizeSubjectd, write_series
from monai_advdef.handlers import AttackedVolumeSaver, AttackNotApplied

TURN = np.array([[0, 0.6 * 0.9, -0.8 * 2.5, 40], [-0.7, 0, 0, 12], [0, -0.8 * 0.9, -0.6 * 2.5, 4], [0, 0, 0, 1.0]])  # oblique
CROP = CropForegroundd(["image"], source_key="image", select_fn=lambda x: x != 0, k_divisible=2, allow_smaller=False)
MRI = [
    LoadSeriesd("image", ensure_channel_first=True),
    OrderSeriesd("image"),
    NormalizeSeriesd("image"),
    Orientationd("image", "LPS"),
    CROP,
]


def brain(seed: int) -> np.ndarray:
    """(10, 9, 7) int16 with zeros around."""
    volume = np.zeros((10, 9, 7), np.int16)
    volume[2:8, 1:8, 1:6] = np.random.default_rng(seed).integers(100, 900, (6, 7, 5))
    return volume


def attacked(entries, transform, shift, tmp_path, **options):
    """What the saver writes when ``shift`` is added to every voxel that is not 0, by case."""
    transform = Compose(transform)
    dataset = Dataset(entries, transform)
    saver = AttackedVolumeSaver(tmp_path / "out", transform, **options)
    engine = SimpleNamespace(state=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)))
    saver.started(engine)
    for number, batch in enumerate(DataLoader(dataset, batch_size=2), 1):
        clean = batch["image"].as_tensor().clone()
        step = torch.as_tensor(shift, dtype=torch.float32).reshape(1, -1, 1, 1, 1)
        batch["image"] = MetaTensor(clean + step * (clean != 0)).copy_meta_from(batch["image"])
        engine.state.batch, engine.state.iteration = batch, number
        engine.state.attack = SimpleNamespace(iteration=number, clean=clean)
        saver(engine)
    return {f"{p.parent.name}/{p.name}": p for p in sorted((tmp_path / "out").rglob("*.nii.gz"))}


@pytest.mark.parametrize(("dtype", "slope", "inter"), [(np.int16, 1, 0), (np.uint16, 0.25, -3), (np.float32, 1, 0)])
def test_series_keep_header_type_and_zeros_and_move_by_sigma(tmp_path, dtype, slope, inter):
    entries = []
    for case in range(2):
        paths = [str(tmp_path / f"s{case}_{name}.nii") for name in ("t1", "t2")]
        for k, path in enumerate(paths):
            image = nib.Nifti1Image(((brain(10 * case + k) - inter) / slope).astype(dtype), TURN)
            image.header.set_slope_inter(slope, inter)
            image.header["descrip"], image.header["pixdim"][4] = b"a note", 7
            nib.save(image, path)
        entries.append({"case": f"s{case}", "image": paths})
    found = attacked(entries, MRI, [0.5, -0.25], tmp_path)
    assert set(found) == {f"s{c}/s{c}_{n}_attacked.nii.gz" for c in range(2) for n in ("t1", "t2")}
    for name, path in found.items():
        source = tmp_path / path.name.replace("_attacked.nii.gz", ".nii")
        before, after = nib.load(source), nib.load(path)
        for part in ("sform_code", "qform_code", "pixdim", "descrip", "datatype", "xyzt_units", "srow_x", "quatern_b"):
            np.testing.assert_array_equal(after.header[part], before.header[part])
        np.testing.assert_array_equal(after.affine, before.affine)
        was, now = before.get_fdata(), after.get_fdata()
        np.testing.assert_array_equal(now[was == 0], 0)
        step = (0.5 if "t1" in name else -0.25) * was[was != 0].std()
        np.testing.assert_allclose(now[was != 0] - was[was != 0], step, atol=slope / 2 + 1e-3 if dtype != np.float32 else 1e-3)
        ours, theirs = (SimpleITK.ReadImage(str(p)) for p in (path, source))
        for ask in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            np.testing.assert_allclose(getattr(ours, ask)(), getattr(theirs, ask)(), rtol=1e-6)
        assert slope != 1 or ours.GetPixelID() == theirs.GetPixelID()


def test_a_file_of_four_dimensions_keeps_the_order_of_its_own_channels(tmp_path):
    nib.save(nib.Nifti1Image(np.stack([brain(0), brain(1), brain(2)], -1), TURN), tmp_path / "a.nii.gz")
    entries = [{"case": f"s{c}", "image": str(tmp_path / "a.nii.gz"), "series_order": [2, 0]} for c in range(2)]
    found = attacked(entries, MRI, [1, 0], tmp_path)
    moved = nib.load(found["s0/a_attacked.nii.gz"]).get_fdata() - np.stack([brain(0), brain(1), brain(2)], -1)
    inside = brain(2) != 0
    np.testing.assert_allclose(moved[..., 2][inside], brain(2)[inside].std(), atol=0.51)
    assert not moved[..., :2].any()


def test_dicom_series_become_nifti_on_their_grid_and_a_z_score_is_undone(tmp_path):
    for case in range(2):
        write_series(tmp_path / f"s{case}" / "ct", brain(case), TURN, modality="CT")
    entries = [{"case": f"s{c}", "image": str(tmp_path / f"s{c}" / "ct")} for c in range(2)]
    transform = [
        LoadSeriesd("image", ensure_channel_first=True),
        StandardizeSubjectd("image", mean=40, std=100),
        Orientationd("image", "RAS"),
    ]
    found = attacked(entries, transform, [3], tmp_path)
    assert set(found) == {"s0/ct_attacked.nii.gz", "s1/ct_attacked.nii.gz"}
    for case in range(2):
        before, after = LoadSeriesd("image")(entries[case])["image"], nib.load(found[f"s{case}/ct_attacked.nii.gz"])
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
        assert after.get_data_dtype() == np.float32
        np.testing.assert_allclose(after.get_fdata() - before.numpy(), 3 * before.numpy().std() / 100, rtol=1e-3)


def test_integers_may_be_kept_as_floats(tmp_path):
    nib.save(nib.Nifti1Image(brain(0), TURN), tmp_path / "a.nii.gz")
    entries = [{"case": f"s{c}", "image": str(tmp_path / "a.nii.gz")} for c in range(2)]
    made = nib.load(attacked(entries, MRI, [0.001], tmp_path, dtype="float32")["s1/a_attacked.nii.gz"])
    inside = brain(0) != 0
    assert made.get_data_dtype() == np.float32
    np.testing.assert_allclose((made.get_fdata() - brain(0))[inside], 0.001 * brain(0)[inside].std(), rtol=1e-3)


def test_cases_without_name_and_batches_without_attack_are_refused(tmp_path):
    saver = AttackedVolumeSaver(tmp_path, Compose([]))
    for entries in ([{"image": "a"}], [{"case": "a"}, {"case": "a"}], []):
        state = SimpleNamespace(dataloader=SimpleNamespace(dataset=Dataset(entries)))
        with pytest.raises(ValueError, match="are filed by 'case'"):
            saver.started(SimpleNamespace(state=state))
    with pytest.raises(ValueError, match="'image' of case a carries no metadata"):
        saver.save("a", {"image": torch.zeros(1, 2, 2, 2)}, torch.zeros(1, 2, 2, 2))
    with pytest.raises(AttackNotApplied, match="no attack touched batch 3"):
        saver(SimpleNamespace(state=SimpleNamespace(iteration=3)))


def test_series_of_one_file_name_do_not_overwrite_each_other(tmp_path):
    for name in ("t1", "t2"):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(brain(0), TURN), tmp_path / name / "scan.nii.gz")
    entries = [{"case": "s0", "image": [str(tmp_path / name / "scan.nii.gz") for name in ("t1", "t2")]}]
    with pytest.raises(ValueError, match="series of case s0 share a file name"):
        attacked(entries, MRI, [0.5, 0.5], tmp_path)
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
