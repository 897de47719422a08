"""Volumes of one case whose axes run differently, single volumes with four axes, and masks of one case that overlap."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from layout_folders import organ, scan, totalsegmentator, volume
from mri_files import LPS, SERIES, data_set, loading, save, volumes

from monai_advdef.data import DataError, LoadSeriesd, check_folder, dataset, subject_items


def turn(path, axcodes):
    image = nib.load(path)
    there = nib.orientations.axcodes2ornt(axcodes)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), there)), path)


def loaded(root):
    return {case["case"]: loading()(case) for case in subject_items(root, "glioma")}


@pytest.mark.parametrize(("file", "axcodes"), [("seg", "RAS"), ("seg", "SAR"), ("t1", "PIR"), ("flair", "RAI")])
def test_series_and_labels_may_have_their_axes_in_another_order(tmp_path, file, axcodes):
    data_set(tmp_path)
    expected = loaded(tmp_path)["a"]
    turn(tmp_path / "a" / f"{file}.nii.gz", axcodes)
    assert not check_folder(tmp_path, task="glioma").problems
    found = loaded(tmp_path)["a"]
    for key in ("image", "label"):
        torch.testing.assert_close(found[key].as_tensor(), expected[key].as_tensor())
        torch.testing.assert_close(found[key].affine, expected[key].affine)


def test_a_list_takes_the_axes_of_its_first_file(tmp_path):
    made = volumes()
    paths = [save(tmp_path / f"{name}.nii.gz", made[name]) for name in SERIES]
    turn(paths[2], "IRP")
    image = LoadSeriesd("image")({"image": [str(path) for path in paths]})["image"]
    np.testing.assert_array_equal(image.numpy(), np.stack([made[name] for name in SERIES]))
    np.testing.assert_allclose(image.affine, LPS)


@pytest.mark.parametrize("shift", [1.5, 0.4])
def test_a_turned_label_elsewhere_is_refused(tmp_path, shift):
    data_set(tmp_path)
    path = tmp_path / "a" / "seg.nii.gz"
    turn(path, "RAS")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine + shift * np.eye(4, k=3)), path)
    (problem,) = check_folder(tmp_path, task="glioma").problems
    assert "a/seg.nii.gz and" in problem and "not on the same grid" in problem


def test_a_fourth_axis_of_one_is_none(tmp_path):
    data_set(tmp_path)
    expected = loaded(tmp_path)["a"]
    for path in (tmp_path / "a").iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine), path)
    assert not check_folder(tmp_path, task="glioma").problems
    torch.testing.assert_close(loaded(tmp_path)["a"]["image"].as_tensor(), expected["image"].as_tensor())


@pytest.mark.parametrize("flat", [organ()[..., 0], np.stack([organ()] * 2, -1)], ids=["one slice", "two volumes"])
def test_a_ct_label_that_is_no_volume_is_refused_by_name(tmp_path, flat):
    for name in "abc":
        scan(tmp_path / f"images/{name}.nii.gz")
        volume(tmp_path / f"labels/{name}.nii.gz", organ())
    volume(tmp_path / "labels/b.nii.gz", flat)
    (problem,) = check_folder(tmp_path).problems
    assert f"labels/b.nii.gz has the shape {flat.shape}; it should be one volume (3-D)" in problem


def test_masks_of_organs_may_have_their_axes_in_another_order(tmp_path):
    def labels(root):
        return {case["case"]: np.asarray(nib.load(case["label"]).dataobj) for case in cases(root)}

    def cases(root):
        return dataset("abdomen", root, tmp_path / "phantom", test_only=True)["test"]

    totalsegmentator(tmp_path / "a")
    totalsegmentator(tmp_path / "b")
    turn(tmp_path / "b/s0001/segmentations/liver.nii.gz", "LPI")
    expected, found = labels(tmp_path / "a"), labels(tmp_path / "b")
    assert all((found[case] == expected[case]).all() for case in expected)


def spleens(root, depth):
    """A spleen that lies over the liver by ``depth`` of its 20 planes, and beside it otherwise."""
    totalsegmentator(root, cases=3)
    for folder in root.iterdir():
        liver, spleen = np.zeros((12, 10, 8), bool), np.zeros((12, 10, 8), bool)
        liver[2:6, 2:5], spleen[6:11, 2:8] = True, True
        spleen[5, 2 : 2 + depth, 0] = True
        volume(folder / "segmentations/liver.nii.gz", liver)
        volume(folder / "segmentations/spleen.nii.gz", spleen)
        (folder / "segmentations/kidney_left.nii.gz").unlink()


def test_organs_that_meet_are_told_and_the_first_counts(tmp_path):
    spleens(tmp_path / "a", depth=2)
    report = check_folder(tmp_path / "a")
    assert not report.problems
    assert [note for note in report.notes if "'s0001': liver and spleen overlap in 2 voxels, which count as liver" in note]
    labels = [nib.load(case["label"]) for case in dataset("abdomen", tmp_path / "a", tmp_path / "p", test_only=True)["test"]]
    assert [int((np.asarray(label.dataobj) == 5).sum()) for label in labels] == [4 * 3 * 8] * 3


def test_a_mask_that_hides_another_is_refused(tmp_path):
    """The regions of BraTS lie in each other: the whole tumour would hide what enhances."""
    for case in "abc":
        made = volumes()
        for name in SERIES:
            save(tmp_path / case / f"{name}x.nii.gz", made[name])
        for name, values in (("tc", (1, 4)), ("wt", (1, 2, 4)), ("et", (4,))):
            save(tmp_path / case / f"{name}.nii.gz", np.isin(made["seg"], values).astype(np.uint8))
    images, masks = [f"{{case}}/{name}x.nii.gz" for name in SERIES], [f"{{case}}/{name}.nii.gz" for name in ("tc", "wt", "et")]
    report = check_folder(tmp_path, task="glioma", images=images, masks=masks)
    assert len(report.problems) == 3
    assert "oedema and enhancing tumour overlap in" in report.problems[0] and "100 % of the latter" in report.problems[0]
    with pytest.raises(DataError, match="give masks that do not overlap"):
        dataset("glioma", tmp_path, tmp_path / "phantom", images=images, masks=masks)


def test_a_mask_of_one_structure_holds_two_values(tmp_path):
    totalsegmentator(tmp_path, cases=3)
    path = tmp_path / "s0001/segmentations/liver.nii.gz"
    soft = np.asarray(nib.load(path).dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(soft * np.linspace(0.25, 1, 8, dtype=np.float32), np.eye(4)), path)
    (problem,) = check_folder(tmp_path).problems
    assert "s0001/segmentations/liver.nii.gz holds the values 0, " in problem and "nearest neighbour" in problem
    nib.save(nib.Nifti1Image((soft > 0).astype(np.uint8) * 255, np.eye(4)), path)
    assert not check_folder(tmp_path).problems
