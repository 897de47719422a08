"""Phantom gliomas: real NIfTI files, anatomy and contrast as in the four series, the same again from the same seed."""

from __future__ import annotations

import csv
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline

from monai_advdef.__main__ import main
from monai_advdef.data import PHANTOMS, DataError, check_folder, dataset, write_glioma_phantoms
from monai_advdef.phantoms.volume_fields import Grid, _spline_basis

SERIES = ("t1", "t1ce", "t2", "flair")
CASES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("glioma")
    write_glioma_phantoms(root, cases=CASES, spacing=(3, 3, 3))
    return root


@pytest.fixture(scope="module")
def subjects(folder):
    """Name, grade, volumes by name."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["case"], row["grade"], {n: voxels(folder / row["case"] / f"{n}.nii.gz") for n in (*SERIES, "seg")}) for row in rows]


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def test_files_are_nifti_volumes_on_one_grid(folder):
    assert PHANTOMS["glioma"] is write_glioma_phantoms
    for number in range(CASES):
        images = {name: nib.load(folder / f"phantom_{number:04d}" / f"{name}.nii.gz") for name in (*SERIES, "seg")}
        for name, image in images.items():
            assert image.shape == (64, 75, 53) and image.header.get_zooms() == (3, 3, 3)
            assert nib.aff2axcodes(image.affine) == ("L", "P", "S") and image.header.get_xyzt_units()[0] == "mm"
            assert image.get_data_dtype() == (np.uint8 if name == "seg" else np.int16)
            assert np.array_equal(image.affine, images["t1"].affine)
            assert np.allclose(nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2), 0)


def test_heads_are_skull_stripped(subjects):
    for name, _, made in subjects:
        brain = made["t1"] > 0
        assert all(np.array_equal(made[series] > 0, brain) and made[series].min() == 0 for series in SERIES), name
        assert 900 < brain.sum() * 0.027 < 1900, name  # ml
        assert ndimage.label(brain)[1] == 1 and np.array_equal(ndimage.binary_fill_holes(brain), brain), name
        sides = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., -1]]  # the brain stem may leave the field below
        assert not any(side.any() for side in sides), name


def test_labels_are_nested_in_the_brain(subjects):
    """The necrotic middle lies in the core, the core in the oedema: few of their neighbours are of a label further out."""
    assert {grade for _, grade, _ in subjects} == {"high", "low"}
    for name, grade, made in subjects:
        seg = made["seg"]
        assert set(np.unique(seg)) <= {0, 1, 2, 4} and {1, 2} <= set(np.unique(seg)) and not (seg > 0)[made["t1"] == 0].any(), name
        assert 5 < (seg > 0).sum() * 0.027 < 300, name  # ml
        core = np.isin(seg, (1, 4))
        rim = ndimage.binary_dilation(core) & ~core
        assert (seg[rim] == 2).mean() > 0.6, name
        if grade == "high":
            middle = seg == 1
            shell = ndimage.binary_dilation(middle) & ~middle
            assert (seg[shell] == 4).mean() > 0.8 and (seg == 4).sum() > 30, name
        else:
            assert (seg == 4).sum() < 0.25 * core.sum(), name


def test_series_show_what_they_show_in_patients(subjects):
    for name, grade, made in subjects:
        seg, healthy = made["seg"], (made["seg"] == 0) & (made["t1"] > 0)
        middle = {series: np.median(made[series][healthy]) for series in SERIES}
        oedema = {series: np.median(made[series][seg == 2]) / middle[series] for series in SERIES}
        assert oedema["t1"] < 0.95 and oedema["t2"] > 1.2 and oedema["flair"] > 1.3, name
        if grade == "high":
            assert np.median(made["t1ce"][seg == 4]) > 1.4 * middle["t1ce"], name
            assert np.median(made["t1"][seg == 4]) < middle["t1"], name
        fluid = healthy & (made["t2"] > np.quantile(made["t2"][healthy], 0.98))
        assert np.median(made["flair"][fluid]) < middle["flair"] and np.median(made["t1"][fluid]) < middle["t1"], name


def test_the_same_seed_draws_the_same_and_an_interrupted_call_goes_on(folder, subjects, tmp_path):
    write_glioma_phantoms(tmp_path / "new", cases=1, spacing=(3, 3, 3))
    paths = write_glioma_phantoms(tmp_path / "new", cases=2, spacing=(3, 3, 3))
    (paths[0] / "t2.nii.gz").unlink()
    write_glioma_phantoms(tmp_path / "new", cases=2, spacing=(3, 3, 3))
    for path, (_, _, made) in zip(paths, subjects):
        assert all(np.array_equal(voxels(path / f"{name}.nii.gz"), made[name]) for name in made)
    with pytest.raises(DataError, match="holds other phantoms"):
        write_glioma_phantoms(tmp_path / "new", cases=2, spacing=(3, 3, 3), seed=1)
    write_glioma_phantoms(tmp_path / "new", cases=1, spacing=(8, 8, 8), seed=1, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["labels.csv", "phantom_0000", "phantoms.json"]
    assert voxels(paths[0] / "t2.nii.gz").shape == (24, 28, 20)


def test_thick_slices_on_the_command_line(tmp_path, capsys):
    words = ["phantom", "glioma", str(tmp_path / "thick"), "--cases", "1", "--spacing", "2", "2", "8"]
    assert main(words) == 0 and "1 cases with their masks" in capsys.readouterr().out
    image = nib.load(tmp_path / "thick" / "phantom_0000" / "flair.nii.gz")
    assert image.shape == (96, 112, 20) and image.header.get_zooms() == (2, 2, 8)
    assert check_folder(tmp_path / "thick").problems == []
    assert main(["phantom", "skin", str(tmp_path / "skin"), "--spacing", "1", "1", "1"]) == 2
    with pytest.raises(ValueError, match="0.5 to 8 mm, got"):
        write_glioma_phantoms(tmp_path / "other", spacing=(1, 1, 9))


def test_phantoms_are_the_default_data(tmp_path, monkeypatch):
    monkeypatch.setitem(PHANTOMS, "glioma", partial(write_glioma_phantoms, spacing=(6, 6, 6)))
    found = dataset("glioma", phantom_dir=tmp_path / "phantom", phantoms=10)
    cases = [item["case"] for section in found.values() for item in section]
    assert all(found.values()) and sorted(cases) == [f"phantom_{number:04d}" for number in range(10)]
    assert {item["grade"] for item in found["train"]} == {"high", "low"}


def test_splines_are_those_of_scipy():
    basis = _spline_basis(30, 1.7, 10.0, 0.4)
    place = np.arange(30) * 1.7 / 10 + 1.4
    cubic = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    meant = np.nan_to_num(cubic(place[:, None] - np.arange(basis.shape[1])))
    assert np.allclose(basis, meant, atol=1e-6) and np.allclose(basis.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 3.0, 7.0)])
def test_noise_has_mean_zero_and_deviation_one(spacing):
    grid = Grid.of(np.random.default_rng(0), spacing, (200, 200, 200))
    fields = np.stack([grid.noise(20) for _ in range(8)])
    assert fields.shape[1:] == grid.shape and abs(fields.mean()) < 0.12 and fields.std() == pytest.approx(1, abs=0.07)
