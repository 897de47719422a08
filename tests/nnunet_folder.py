"""Small nnU-Net v2 results folders, made by nnU-Net's own planner and trainers: run as a script, because nnU-Net spawns workers.

    python nnunet_folder.py OUT

OUT/ct: 3d_fullres, labels, two folds. OUT/mr: 2d, overlapping regions, two channels, axes transposed, one fold. OUT/colour: 2d
pictures. Each has ``data`` (imagesTs, labelsTs) and ``results``. The networks are small, and as the trainers initialise
them.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import sys
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

NAME = "Dataset001_Balls"
SHAPE = (22, 21, 18)
SEED = 3  # of the weights: every network gives every class
VARIANTS: dict[str, dict[str, Any]] = {
    "ct": {
        "configuration": "3d_fullres",
        "folds": (0, 1),
        "patch": [12, 16, 16],
        "channels": ["CT"],
        "spacings": [(1.6, 1.4, 2.5), (1, 1, 7)],
    },
    "mr": {
        "configuration": "2d",
        "folds": (0,),
        "patch": [16, 16],
        "channels": ["T1", "T2"],
        "spacings": [(1.2, 1.8, 3), (2, 1.5, 1.5)],
    },
    "colour": {"configuration": "2d", "folds": (0,), "patch": [24, 28], "channels": ["R", "G", "B"], "spacings": []},
}


def balls(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image with two nested balls, and its labels 1 and 2 inside."""
    grid = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"))
    centre = np.array([rng.uniform(0.4 * s, 0.6 * s) for s in shape]).reshape(-1, *(1,) * len(shape))
    away = np.sqrt(((grid - centre) ** 2).sum(0))
    label = (away < 7).astype(np.uint8) + (away < 4)
    return (rng.normal(20, 12, shape) + 60.0 * label).astype(np.int16), label.astype(np.uint8)


def write_volumes(folder: pathlib.Path, part: str, channels: int, spacings: list[tuple[float, ...]], *, bare: bool = False) -> None:
    """A case per spacing; with ``bare`` the head and tail of the first axis are 0."""
    rng = np.random.default_rng(len(part) + channels)
    for kind in ("images", "labels"):
        (folder / (kind + part)).mkdir(parents=True, exist_ok=True)
    for i, spacing in enumerate(spacings):
        image, label = balls(SHAPE, rng)
        affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])[:, [1, 0, 2, 3] if i % 2 else [0, 1, 2, 3]]
        affine[:3, 3] = (5, -8, 3)
        for channel in range(channels):
            values = image + channel * rng.integers(0, 9, SHAPE).astype(np.int16)
            if bare:
                values[:3] = values[:, -2:] = 0
            nib.save(nib.Nifti1Image(values, affine), folder / f"images{part}/b{i:02}_{channel:04}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / f"labels{part}/b{i:02}.nii.gz")


def write_pictures(folder: pathlib.Path) -> None:
    """Two colour pictures with their labels."""
    rng = np.random.default_rng(9)
    for kind in ("imagesTs", "labelsTs"):
        (folder / kind).mkdir(parents=True)
    for i in range(2):
        image, label = balls((40, 33), rng)
        colours = np.stack([np.clip(image + 10 * c, 0, 255) for c in range(3)], -1).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"imagesTs/p{i}_0000.png")
        Image.fromarray(label).save(folder / f"labelsTs/p{i}.png")


def plans_and_dataset(out: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """By nnU-Net's own planner, from two cases."""
    data = out / "raw" / NAME
    write_volumes(data, "Tr", 1, [(1.5, 1.5, 2.0)] * 2)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "kidney": 1, "cyst": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(dataset))
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments

    extract_fingerprints([1], num_processes=1)
    plan_experiments([1])
    return json.loads((out / "preprocessed" / NAME / "nnUNetPlans.json").read_text()), dataset


def varied(plans: dict[str, Any], dataset: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans and dataset of one variant: small networks, its own channels and labels."""
    plans, dataset, told = copy.deepcopy(plans), copy.deepcopy(dataset), VARIANTS[name]
    one, channels = plans["configurations"][told["configuration"]], told["channels"]
    dataset["channel_names"] = {str(i): c for i, c in enumerate(channels)}
    one["patch_size"], flat = told["patch"], len(told["patch"])
    arch = one["architecture"]["arch_kwargs"]
    arch |= {"n_stages": 2, "features_per_stage": [4, 8], "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1]}
    arch |= {"kernel_sizes": [[3] * flat] * 2, "strides": [[1] * flat, [2] * flat]}
    told_of = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {str(i): told_of for i in range(len(channels))}
    if name == "mr":
        one["normalization_schemes"], one["use_mask_for_norm"] = ["ZScoreNormalization"] * 2, [True, False]
        plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]
        plans["image_reader_writer"] = "NibabelIO"
        dataset |= {"labels": {"background": 0, "lesion": 2, "organ": [1, 2]}, "regions_class_order": [2, 1]}
    if name == "colour":
        one["normalization_schemes"], one["use_mask_for_norm"] = ["RGBTo01Normalization"] * 3, [False] * 3
        one["spacing"] = [1.0, 1.0]
        plans["image_reader_writer"], dataset["file_ending"] = "NaturalImage2DIO", ".png"
    return plans, dataset


def main() -> None:
    """All variants below the folder that is named."""
    out = pathlib.Path(sys.argv[1])
    for k in ("raw", "preprocessed", "results"):
        (out / k).mkdir(parents=True, exist_ok=True)
        os.environ["nnUNet_" + k] = str(out / k)
    os.environ.update(nnUNet_def_n_proc="1", nnUNet_n_proc_DA="1", nnUNet_compile="f")
    planned = plans_and_dataset(out)
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    for told in VARIANTS.values():  # a trainer looks at what is preprocessed, which only training needs
        ready = out / "preprocessed" / NAME / f"nnUNetPlans_{told['configuration']}"
        ready.mkdir(exist_ok=True)
        (ready / "b00.b2nd").touch()
    for name, told in VARIANTS.items():
        plans, dataset = varied(*planned, name)
        results = out / name / "results"
        results.mkdir(parents=True)
        for file, held in (("plans.json", plans), ("dataset.json", dataset)):
            (results / file).write_text(json.dumps(held))
        for fold in told["folds"]:
            torch.manual_seed(SEED + fold)
            trainer = nnUNetTrainer(
                {**plans, "continue_training": False}, told["configuration"], fold, dataset, device=torch.device("cpu")
            )
            trainer.initialize()
            trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # says along which axes it mirrors
            (results / f"fold_{fold}").mkdir()
            trainer.save_checkpoint(str(results / f"fold_{fold}/checkpoint_final.pth"))
        if name == "colour":
            write_pictures(out / name / "data")
        else:
            write_volumes(out / name / "data", "Ts", len(told["channels"]), told["spacings"], bare=True)


if __name__ == "__main__":  # nnU-Net starts workers by spawning this file
    main()
