"""A 2D network on volumes by a slice inferer; its training reads one array file, so only its inference can be audited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import head, inference, inverted, onehot, saved
from zoo.write import about, ball, compose, network_of, write_bundle, write_pairs

NETWORK = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 4, "channels": [4, 8], "strides": [2]}


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A short-axis stack with pool, wall and the other ventricle."""
    rng = np.random.default_rng(i)
    shape = (24, 24, 4)
    wall, pool, other = ball(shape[:2], (12, 10), 6), ball(shape[:2], (12, 10), 3.5), ball(shape[:2], (12, 19), 3)
    label = np.where(pool, 1, np.where(wall, 2, np.where(other, 3, 0)))[..., None].repeat(4, -1)
    return (80.0 * label + 50 + 10 * rng.standard_normal(shape)).astype(np.float32), label.astype(np.uint8)


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data: ``images/`` with ``labels/`` beside."""
    data = folder / "data" / "short_axis"
    write_pairs(data, [f"stack_{i}" for i in range(cases)], case, "images/{}.nii.gz", "labels/{}.nii.gz", spacing=(1.4, 1.4, 8.0))
    before = [
        ("LoadImaged", {"keys": "image", "image_only": False}),
        ("EnsureChannelFirstd", {"keys": "image"}),
        ("ScaleIntensityd", {"keys": "image"}),
        ("EnsureTyped", {"keys": "image", "device": "@device"}),
    ]
    after = [
        onehot(4)[0],
        inverted("@preprocessing", meta_key_postfix="meta_dict"),
        ("AsDiscreted", {"keys": "pred", "argmax": True}),
        saved(),
    ]
    use = inference(
        ["glob"],
        NETWORK,
        before,
        {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2},
        after,
        run="evaluating",
        dataset_dir="/workspace/data",
        datalist="$list(sorted(glob.glob(@dataset_dir + '/images/*.nii*')))",
    )
    stored = {"_target_": "NPZDictItemDataset", "npzfile": "$@dataset_file", "keys": {"images": "image", "segs": "label"}}
    train = {
        **head(["from functools import partial", "import numpy as np", "torch", "from ignite.engine import Events"], NETWORK),
        "dataset_dir": ".",
        "dataset_file": "$@dataset_dir + '/allimages3label.npz'",
        "npz": stored,
        "eval_dataset": {"_target_": "CacheDataset", "data": "@npz", "transform": compose(("ScaleIntensityd", {"keys": "image"}))},
        "eval_dataloader": {"_target_": "DataLoader", "dataset": "@eval_dataset", "batch_size": 200},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@eval_dataloader",
            "network": "@network",
        },
        "training": ["$@trainer.run()"],
    }
    metadata = about(1, ["background", "left ventricle pool", "left ventricle myocardium", "right ventricle pool"])
    bundle = write_bundle(folder / "ventricular_short_axis_3label", {"train": train, "inference": use}, metadata)
    torch.save({"model": network_of(NETWORK).state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
