"""A 2D inference-only bundle: JPEGs resized and scaled by their own extremes, an argmax behind the inversion, one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zoo.write import DEVICE, about, ball, compose, network_of, teach, transforms, write_bundle

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 2,
    "channels": [8, 16],
    "strides": [2],
    "num_res_units": 1,
}
WIDTH, HEIGHT = 48, 32  # of a photograph; the network sees 32 x 24


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (W, H, 3) of a grey tool on red, and its mask (W, H)."""
    rng = np.random.default_rng(i)
    tool = ball((WIDTH, HEIGHT), (20 + 3 * (i % 4), 16), 9)
    image = np.where(tool[..., None], (150, 160, 170), (190, 60, 50)) + 8 * rng.standard_normal((WIDTH, HEIGHT, 3))
    return image.clip(0, 255).astype(np.uint8), tool.astype(np.uint8)


def inference() -> dict[str, Any]:
    """The one configuration file."""
    before = transforms(
        ("LoadImaged", {"keys": "image"}),
        ("EnsureChannelFirstd", {"keys": "image", "channel_dim": -1}),
        ("Resized", {"keys": ["image"], "spatial_size": [32, 24], "mode": ["bilinear"]}),
        ("ScaleIntensityd", {"keys": ["image"]}),
    )
    inverted = {"transform": "@preprocessing", "orig_keys": "image", "meta_key_postfix": "meta_dict", "nearest_interp": False}
    saved = {
        "meta_keys": "pred_meta_dict",
        "output_dir": "@output_dir",
        "output_ext": ".png",
        "scale": 255,
        "squeeze_end_dims": True,
    }
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data/tools",
        "datalist": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'test', '*', '*[!seg].jpg'))))",
        "device": DEVICE,
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 4},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            ("Invertd", {"keys": "pred", "to_tensor": True, **inverted}),
            ("AsDiscreted", {"keys": ["pred"], "argmax": True, "to_onehot": 2}),
            ("Lambdad", {"keys": ["pred"], "func": "$lambda x : x[1:]"}),
            ("SaveImaged", {"keys": "pred", **saved}),
        ),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {"_target_": "StatsHandler", "iteration_log": False},
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
        "run": ["$@evaluator.run()"],
    }


def build(folder: Path, *, cases: int = 3) -> tuple[Path, Path]:
    """The bundle and its data: ``test/<sequence>/<n>.jpg`` with ``<n>_seg.jpg`` beside it, of which the bundle says nothing."""
    data = folder / "data" / "tools"
    for i in range(cases):
        image, mask = case(i)
        at = data / "test" / f"sequence_{i % 2}"
        at.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 0, 2)).save(at / f"{i}0.jpg", quality=95)
        Image.fromarray(255 * mask.T).save(at / f"{i}0_seg.jpg", quality=100)
    bundle = write_bundle(folder / "endoscopic_tool_segmentation", {"inference": inference()}, about(3, ["background", "tools"]))
    pairs = [case(i) for i in range(cases)]
    images = [torch.tensor(x, dtype=torch.float32).permute(2, 0, 1) / 255 for x, _ in pairs]
    network = teach(network_of(NETWORK), images, [torch.tensor(y) for _, y in pairs])
    torch.save({"model": network.state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
