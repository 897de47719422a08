"""The glioma bundle from training to NIfTI predictions and the study of its paper, on small phantom subjects."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from monai_advdef.bundle import bundles
from monai_advdef.data import subject_items, write_glioma_phantoms, write_series
from monai_advdef.papers import Robustness
from monai_advdef.study import Cell, carry_out, recorded, workflow

NAME = "glioma_mri_segmentation"
QUICK = {"train::trainer::max_epochs": 2, "val_interval": 1, "channels": (4, 8, 8), "samples": 2, "batch_size": 2}
SMALL = {"unet2d": {"patch_size": (16, 16, 1)}, "unet3d": {"patch_size": (16, 16, 16)}}
CLASSES = {"necrotic core", "oedema", "enhancing tumour"}
SECTIONS = {"train": (0, 1, 2), "validation": (3,), "test": (4, 5)}
MRI = "threats/mri"


@pytest.fixture(scope="module")
def gliomas(tmp_path_factory, store) -> Path:
    """The bundle in a folder of its own, with six phantom subjects at 6 mm."""
    root = tmp_path_factory.mktemp("gliomas") / NAME
    shutil.copytree(bundles()[NAME], root, ignore=shutil.ignore_patterns("*.pt", "output", "phantom"))
    write_glioma_phantoms(root / "phantom", cases=6, spacing=(6, 6, 6))
    return root


@pytest.fixture(scope="module")
def fixed(gliomas) -> Path:
    """The subjects again, with the sections told."""
    data = gliomas / "fixed"
    shutil.copytree(gliomas / "phantom", data)
    rows = [f"phantom_{i:04d},{section}" for section, cases in SECTIONS.items() for i in cases]
    (data / "split.csv").write_text("\n".join(["case,section", *rows]) + "\n")
    return data


def settings(data, output, network="unet2d", **options):
    told = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(output / "models"), "network": network}
    return {**told, **QUICK, **SMALL[network], **options}


@pytest.fixture(scope="module")
def slices(gliomas, fixed, tmp_path_factory) -> Path:
    """Folder of a trained network of slices."""
    folder = tmp_path_factory.mktemp("slices")
    carry_out(gliomas, (), settings(fixed, folder))
    return folder


def evaluated(gliomas, data, folder, *overlays, network="unet2d", **overrides):
    quiet = {"record_def::gallery": False, "record_def::card": False}
    return recorded(gliomas, Cell(overlays, quiet | overrides), settings(data, folder, network=network))


def test_volumes_are_scored_by_class_and_region_in_physical_units(gliomas, fixed, slices):
    rows = evaluated(gliomas, fixed, slices)
    assert set(rows["case"]) == {"phantom_0004", "phantom_0005"}
    assert set(rows.loc[rows["metric"] == "dice", "class"]) == CLASSES
    assert set(rows.loc[rows["metric"] == "region_dice", "class"]) == {"whole tumour", "tumour core", "enhancing tumour"}
    assert {"hd95_mm", "volume_error_ml", "region_hd95_mm", "region_volume_error_ml"} <= set(rows["metric"])


@pytest.mark.parametrize("network", SMALL)
def test_attacked_within_sigma_on_brain_voxels(gliomas, fixed, slices, tmp_path, network):
    folder = slices if network == "unet2d" else tmp_path
    if network == "unet3d":
        carry_out(gliomas, (), settings(fixed, folder, network))
    rows = evaluated(gliomas, fixed, folder, "attacks/ifgsm", MRI, network=network, **{"attack_def::steps": 2})
    assert (rows["eps"] == 0.1).all() and (rows["unit"] == "σ").all()
    assert rows["linf"].between(0.05, 0.1 + 1e-6).all()


def test_one_series_alone_and_the_mask_of_another_subject(gliomas, fixed, slices):
    told = {"attack_def::steps": 2, "attack_def::eps": [0.2, 0, 0, 0], "attack_def::target": "other_case"}
    rows = evaluated(gliomas, fixed, slices, "attacks/tifgsm", MRI, **told)
    assert set(rows["eps"]) == {0.2} and rows.loc[rows["metric"] == "target_iou", "value"].between(0, 1).all()


def test_a_budget_in_per_cent_of_each_range(gliomas, fixed, slices):
    told = {"attack_def::steps": 2, "attack_def::relative": True, "attack_def::eps": 2}
    rows = evaluated(gliomas, fixed, slices, "attacks/ifgsm", MRI, **told)
    assert rows["linf"].between(0.02, 0.3).all()


def test_attacked_series_are_kept_as_files_beside_the_labels(gliomas, fixed, slices, tmp_path):
    told = {"attack_def::steps": 2, "attacked_dir": str(tmp_path)}
    evaluated(gliomas, fixed, slices, "attacks/ifgsm", MRI, "outputs/attacked_volumes", **told)
    assert {p.name for p in tmp_path.iterdir()} == {"phantom_0004", "phantom_0005"}
    for name in ("t1", "t1ce", "t2", "flair"):
        was, now = (
            nib.load(p) for p in (fixed / "phantom_0004" / f"{name}.nii.gz", tmp_path / "phantom_0004" / f"{name}_attacked.nii.gz")
        )
        assert now.get_data_dtype() == was.get_data_dtype() and (now.affine == was.affine).all()
        before, after = was.get_fdata(), now.get_fdata()
        unit = before[before != 0].std()
        assert 0.03 * unit < np.abs(after - before).max() <= 0.1 * unit + np.abs(was.dataobj.slope) / 2 + 1e-3


def predictions(gliomas, data, output, slices):
    told = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(slices / "models"), "channels": QUICK["channels"]}
    made = workflow(gliomas, [gliomas / "configs" / "inference.yaml"], told, "inference")
    made.run()
    return {path.parent.name: path for path in output.rglob("*_pred.nii.gz")}


def test_predictions_are_nifti_on_the_grid_of_the_series_and_need_no_labels(gliomas, slices, tmp_path):
    data = tmp_path / "unlabelled"
    shutil.copytree(gliomas / "phantom", data, ignore=shutil.ignore_patterns("seg*", "labels.csv"))
    found = predictions(gliomas, data, tmp_path / "out", slices)
    assert set(found) == {f"phantom_{i:04d}" for i in range(6)}
    for name, path in found.items():
        made, series = nib.load(path), nib.load(data / name / "t1.nii.gz")
        assert made.shape == series.shape and np.allclose(made.affine, series.affine) and made.get_data_dtype() == np.uint8
        assert set(np.unique(made.dataobj)) <= {0, 1, 2, 4}


def test_dicom_series_in_place_of_files_give_the_same_prediction(gliomas, slices, tmp_path):
    name = "phantom_0004"
    for kind in ("nifti", "dicom"):
        (tmp_path / kind / name).mkdir(parents=True)
    for series in ("t1", "t1ce", "t2", "flair"):
        stored = nib.load(gliomas / "phantom" / name / f"{series}.nii.gz")
        voxels = np.asanyarray(stored.dataobj).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, stored.affine), tmp_path / "nifti" / name / f"{series}.nii.gz")
        write_series(tmp_path / "dicom" / name / series, voxels, stored.affine, modality="MR", description=series)
    assert subject_items(tmp_path / "dicom", "glioma", labelled=False)[0]["image"][3].endswith("flair")
    kinds = {
        kind: nib.load(predictions(gliomas, tmp_path / kind, tmp_path / f"out_{kind}", slices)[name]) for kind in ("nifti", "dicom")
    }
    aligned = nib.as_closest_canonical(kinds["dicom"]), nib.as_closest_canonical(kinds["nifti"])
    assert np.allclose(aligned[0].affine, aligned[1].affine, atol=1e-3)
    assert (np.asanyarray(aligned[0].dataobj) == np.asanyarray(aligned[1].dataobj)).mean() > 0.999  # stored cosines are rounded


@pytest.mark.slow
def test_the_study_trains_folds_and_defences_and_tells_of_them(gliomas, tmp_path):
    options = {"options": {"network": "unet2d", "channels": QUICK["channels"]}, "trainings": 2}
    defended = {"start": "plain", "twin": "plain", **options}
    attack = {"eps": [0.1], "options": {"steps": 2, "cache_dir": str(tmp_path / "adversarial")}}
    robustness = Robustness(
        name="small",
        title="Small",
        note="A note.",
        bundle_root=gliomas,
        settings={**settings(gliomas / "phantom", tmp_path), "folds": 2},
        networks=[
            {"name": "plain", **options},
            {"name": "online", "overlay": ["training/adversarial_online", "threats/mri_training"], **defended},
            {
                "name": "distilled",
                "overlay": "training/distillation",
                "start_as": "teacher",
                "evaluate": "networks/distilled",
                **defended,
            },
        ],
        attacks=[
            {"name": "i-FGSM", "overlay": ["attacks/ifgsm", MRI], **attack},
            {"name": "on T1", "overlay": ["attacks/ifgsm", MRI], "channels": [1, 0, 0, 0], **attack},
            {"name": "transfer", "overlay": ["attacks/pgd", MRI], "source": "twin", **attack},
        ],
        curves=["i-FGSM", "on T1"],
        cells=[("i-FGSM", 0.1)],
        compared=[("online", "plain")],
    )
    page = robustness.run().read_text()
    assert "n = 6 subjects, each tested once, in 2 folds" in page
    for part in (
        "### plain: Dice by label",
        "### distilled: distances and volumes",
        "### Defences\n",
        "| online − plain | worst case per subject |",
    ):
        assert part in page
    table = pd.read_csv(tmp_path / "small.csv")
    assert set(table["network"]) == {"plain", "online", "distilled"} and set(table["attack"]) == {
        "clean",
        "i-FGSM",
        "on T1",
        "transfer",
    }
    clean, online = (tmp_path / "models" / n for n in ("plain/fold0/model.pt", "online/fold0/adversarial_online/model.pt"))
    assert clean.exists() and online.exists()
    distilled = torch.load(tmp_path / "models" / "distilled" / "fold1" / "distillation" / "model.pt", weights_only=True)
    assert distilled["factor"] == 20


def test_a_comparison_of_an_unknown_network_is_told(tmp_path):
    with pytest.raises(ValueError, match="compared names 'b', which is not among the networks: a"):
        Robustness(
            name="x",
            title="x",
            bundle_root=".",
            settings={},
            networks=[{"name": "a", "options": {}}],
            attacks=[],
            compared=[("b", "a")],
        )
