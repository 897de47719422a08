"""A bundle in YAML in which keys are references, with a test file that has labels and a metric within its evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.workflow import head, loader
from zoo.write import ball, compose, network_of, teach, transforms, write_bundle, write_pairs

NETWORK = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 4, "channels": [4, 8], "strides": [2]}


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume with spheres of three kinds."""
    rng = np.random.default_rng(i)
    shape = (16, 16, 16)
    label = np.zeros(shape, np.uint8)
    for k, place in ((1, (5, 5, 5)), (2, (11, 5, 8)), (3, (8, 11, 10))):
        label[ball(shape, place, 3)] = k
    return (label / 3 + 0.05 * rng.standard_normal(shape)).astype(np.float32), label


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data: ``img0.nii.gz`` with ``lbl0.nii.gz``."""
    data = folder / "data" / "spheres"
    write_pairs(data, [str(i) for i in range(cases)], case, "img{}.nii.gz", "lbl{}.nii.gz")
    engine = "$monai.handlers.from_engine([@pred, @label])"
    test: dict[str, Any] = {
        **head(["os", "datetime", "torch", "glob"], {**NETWORK, "out_channels": "@num_classes"}),
        "image": "$monai.utils.CommonKeys.IMAGE",
        "label": "$monai.utils.CommonKeys.LABEL",
        "pred": "$monai.utils.CommonKeys.PRED",
        "both_keys": ["@image", "@label"],
        "num_classes": 4,
        "save_pred": False,
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "dataset_dir": "$@bundle_root + '/test_data'",
        "output_dir": "./outputs",
        "imgs": "$sorted(glob.glob(@dataset_dir+'/img*.nii.gz'))",
        "lbls": "$[os.path.join(os.path.dirname(i), os.path.basename(i).replace('img', 'lbl')) for i in @imgs]",
        "data_dicts": "$[{@image: i, @label: l} for i, l in zip(@imgs, @lbls)]",
        "transforms": transforms(
            ("LoadImaged", {"keys": "@both_keys", "image_only": True}),
            ("EnsureChannelFirstd", {"keys": "@both_keys"}),
            ("ScaleIntensityd", {"keys": "@image"}),
        ),
        "preprocessing": {"_target_": "Compose", "transforms": "$@transforms"},
        "dataset": {"_target_": "Dataset", "data": "@data_dicts", "transform": "@preprocessing"},
        "dataloader": {"_target_": "ThreadDataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "postprocessing": compose(
            ("Activationsd", {"keys": "@pred", "softmax": True}),
            ("AsDiscreted", {"keys": ["@pred", "@label"], "argmax": [True, False], "to_onehot": 4}),
            ("SaveImaged", {"_disabled_": "$not @save_pred", "keys": "@pred", "output_dir": "@output_dir", "dtype": "$None"}),
        ),
        "handlers": [
            loader(_disabled_="$not os.path.exists(@ckpt_path)"),
            {"_target_": "StatsHandler", "output_transform": "$lambda x: None"},
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "postprocessing": "@postprocessing",
            "key_val_metric": {"val_mean_dice": {"_target_": "MeanDice", "include_background": False, "output_transform": engine}},
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()", "$print('Per-image Dice:\\n',@evaluator.state.metric_details['val_mean_dice'].cpu().numpy())"],
    }
    bundle = write_bundle(folder / "segmentation_template", {"test": test}, None, form="yaml")
    pairs = [case(i) for i in range(cases)]
    images = [(torch.tensor(x)[None] - x.min()) / (x.max() - x.min()) for x, _ in pairs]
    network = teach(network_of(NETWORK), images, [torch.tensor(y) for _, y in pairs])
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle, data
