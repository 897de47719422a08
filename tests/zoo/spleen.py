"""A 3D softmax bundle in JSON: a window of HU, sliding windows, an evaluation that inverts labels before the argmax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.write import DEVICE, about, ball, compose, network_of, teach, transforms, write_bundle, write_pairs

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
LOW, HIGH, HELD_OUT = -57, 164, 2
BOTH = ["image", "label"]


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT volume in HU with one bright organ, and its label."""
    rng = np.random.default_rng(i)
    shape = (24, 22, 14)
    organ = ball(shape, (10 + i % 4, 11, 7), 5.2)
    image = np.where(organ, 110.0, 10.0) + 15 * rng.standard_normal(shape)
    image[:3] = -900  # air
    return image.astype(np.int16), organ.astype(np.uint8)


def train() -> dict[str, Any]:
    """The training file."""
    shaped = transforms(
        ("LoadImaged", {"keys": BOTH}),
        ("EnsureChannelFirstd", {"keys": BOTH}),
        ("Orientationd", {"keys": BOTH, "axcodes": "RAS"}),
        ("Spacingd", {"keys": BOTH, "pixdim": [1.5, 1.5, 2.0], "mode": ["bilinear", "nearest"]}),
        ("ScaleIntensityRanged", {"keys": "image", "a_min": LOW, "a_max": HIGH, "b_min": 0, "b_max": 1, "clip": True}),
        ("EnsureTyped", {"keys": BOTH}),
    )
    post = compose(
        ("Activationsd", {"keys": "pred", "softmax": True}),
        ("AsDiscreted", {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2}),
    )
    metric = {
        "_target_": "MeanDice",
        "include_background": False,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
    board = {"_target_": "TensorBoardStatsHandler", "log_dir": "@output_dir", "iteration_log": False}
    return {
        "imports": ["$import glob", "$import os", "$import ignite"],
        "bundle_root": ".",
        "ckpt_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data/Task09_Spleen",
        "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
        "labels": "$list(sorted(glob.glob(@dataset_dir + '/labelsTr/*.nii.gz')))",
        "device": DEVICE,
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.0001},
        "train": {
            "deterministic_transforms": shaped,
            "random_transforms": transforms(("RandFlipd", {"keys": BOTH, "prob": 0.5, "spatial_axis": 0})),
            "preprocessing": {"_target_": "Compose", "transforms": "$@train#deterministic_transforms + @train#random_transforms"},
            "dataset": {
                "_target_": "CacheDataset",
                "data": f"$[{{'image': i, 'label': l}} for i, l in zip(@images[:-{HELD_OUT}], @labels[:-{HELD_OUT}])]",
                "transform": "@train#preprocessing",
            },
            "postprocessing": post,
            "handlers": [{"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 5}, board],
        },
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": "%train#deterministic_transforms"},
            "dataset": {
                "_target_": "CacheDataset",
                "data": f"$[{{'image': i, 'label': l}} for i, l in zip(@images[-{HELD_OUT}:], @labels[-{HELD_OUT}:])]",
                "transform": "@validate#preprocessing",
                "cache_rate": 1.0,
            },
            "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1, "num_workers": 0},
            "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8], "sw_batch_size": 4, "overlap": 0.5},
            "postprocessing": "%train#postprocessing",
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}, board],
            "key_metric": {"val_mean_dice": metric},
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "@device",
                "val_data_loader": "@validate#dataloader",
                "network": "@network",
                "inferer": "@validate#inferer",
                "postprocessing": "@validate#postprocessing",
                "key_val_metric": "@validate#key_metric",
                "val_handlers": "@validate#handlers",
                "amp": True,
            },
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$setattr(torch.backends.cudnn, 'benchmark', True)"],
        "run": ["$@train#trainer.run()"],
    }


def evaluate() -> dict[str, Any]:
    """The overlay for the evaluation."""
    return {
        "validate#dataset#cache_rate": 0,
        "validate#postprocessing": compose(
            ("Activationsd", {"keys": "pred", "softmax": True}),
            (
                "Invertd",
                {
                    "keys": ["pred", "label"],
                    "transform": "@validate#preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": [False, True],
                    "to_tensor": True,
                },
            ),
            ("AsDiscreted", {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2}),
            ("SaveImaged", {"_disabled_": True, "keys": "pred", "output_dir": "@output_dir", "resample": False}),
        ),
        "validate#handlers": [
            {"_target_": "CheckpointLoader", "load_path": "$@ckpt_dir + '/model.pt'", "load_dict": {"model": "@network"}},
            {"_target_": "StatsHandler", "iteration_log": False},
            {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"], "summary_ops": "*"},
        ],
        "run": ["$@validate#evaluator.run()"],
    }


def build(folder: Path, *, cases: int = 5) -> tuple[Path, Path]:
    """The bundle and the folder of its data: ``cases`` volumes, of which the last two are evaluated."""
    data = folder / "data" / "Task09_Spleen"
    names = [f"spleen_{i}" for i in range(cases)]
    how = {"spacing": (1.5, 1.5, 2.5), "flipped": True}
    write_pairs(data, names, case, "imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz", **how)
    metadata = about(1, ["background", "spleen"])
    bundle = write_bundle(folder / "spleen_ct_segmentation", {"train": train(), "evaluate": evaluate()}, metadata)
    pairs = [case(i) for i in range(cases)]
    images = [(torch.tensor(x, dtype=torch.float32)[None] - LOW).div(HIGH - LOW).clamp(0, 1) for x, _ in pairs]
    network = teach(network_of(NETWORK), images, [torch.tensor(y) for _, y in pairs])
    torch.save({"model": network.state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
