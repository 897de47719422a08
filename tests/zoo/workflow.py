"""The parts that the configuration files of published bundles have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.write import DEVICE, compose

BOTH = ["image", "label"]
SOFTMAX = [
    ("Activationsd", {"keys": "pred", "softmax": True}),
    ("AsDiscreted", {"keys": "pred", "argmax": True}),
]


def dice(name: str = "val_mean_dice", background: bool = False) -> dict[str, Any]:
    """A mean Dice as key metric."""
    engine = "$monai.handlers.from_engine(['pred', 'label'])"
    return {name: {"_target_": "MeanDice", "include_background": background, "output_transform": engine}}


def onehot(classes: int) -> list[tuple[str, dict[str, Any]]]:
    """Softmax, and prediction and label as one channel a class."""
    both = {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": classes}
    return [("Activationsd", {"keys": "pred", "softmax": True}), ("AsDiscreted", both)]


def inverted(preprocessing: str, *, nearest: bool = False, keys: Any = "pred", **more: Any) -> tuple[str, dict[str, Any]]:
    """An ``Invertd`` of the prediction."""
    how = {"keys": keys, "transform": preprocessing, "orig_keys": "image", "nearest_interp": nearest, "to_tensor": True}
    return "Invertd", {**how, **more}


def saved(key: str = "pred") -> tuple[str, dict[str, Any]]:
    """A ``SaveImaged``."""
    return "SaveImaged", {"keys": key, "meta_keys": "pred_meta_dict", "output_dir": "@output_dir"}


def loader(**more: Any) -> dict[str, Any]:
    """A ``CheckpointLoader`` of ``models/model.pt``."""
    path = "$@bundle_root + '/models/model.pt'"
    return {"_target_": "CheckpointLoader", "load_path": path, "load_dict": {"model": "@network"}, **more}


def head(imports: Sequence[str], network: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What every file begins with."""
    return {
        "imports": [f"$import {name}" if " " not in name else f"${name}" for name in imports],
        "bundle_root": ".",
        "ckpt_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        **more,
    }


def inference(
    imports: Sequence[str],
    network: dict[str, Any],
    before: Sequence[Any],
    inferer: dict[str, Any],
    after: Sequence[Any],
    *,
    data: Any = "$[{'image': i} for i in @datalist]",
    handlers: Any = None,
    run: str = "run",
    **more: Any,
) -> dict[str, Any]:
    """An inference file; ``more`` goes to its top level."""
    return {
        **head(imports, network),
        **more,
        "preprocessing": compose(*before),
        "dataset": {"_target_": "Dataset", "data": data, "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0},
        "inferer": inferer,
        "postprocessing": compose(*after),
        "handlers": [loader(), {"_target_": "StatsHandler", "iteration_log": False}] if handlers is None else handlers,
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": True,
        },
        run: ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@evaluator.run()"],
    }


def training(
    imports: Sequence[str],
    network: dict[str, Any],
    shaped: Sequence[Any],
    inferer: dict[str, Any],
    after: Sequence[Any],
    data: Any,
    *,
    metric: dict[str, Any] | None = None,
    chain: Any = "%train#deterministic_transforms",
    **more: Any,
) -> dict[str, Any]:
    """A training file with its ``validate``; what only training needs is there, too."""
    board = {"_target_": "TensorBoardStatsHandler", "log_dir": "@output_dir", "iteration_log": False}
    keeper = {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}, "save_key_metric": True}
    return {
        **head(imports, network),
        **more,
        "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.0001},
        "train": {
            "deterministic_transforms": compose(*shaped)["transforms"],
            "random_transforms": compose(("RandFlipd", {"keys": BOTH, "prob": 0.5, "spatial_axis": 0}))["transforms"],
            "preprocessing": {"_target_": "Compose", "transforms": "$@train#deterministic_transforms + @train#random_transforms"},
            "postprocessing": compose(*after),
            "handlers": [{"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 5}, board],
        },
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": chain},
            "dataset": {"_target_": "CacheDataset", "data": data, "transform": "@validate#preprocessing", "cache_rate": 0.0},
            "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1, "num_workers": 0},
            "inferer": inferer,
            "postprocessing": "%train#postprocessing",
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}, board, {**keeper, "key_metric_filename": "model.pt"}],
            "key_metric": dice() if metric is None else metric,
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
        "training": ["$monai.utils.set_determinism(seed=123)", "$@train#trainer.run()"],
    }


def evaluation(after: Sequence[Any], *, run: str = "run", file: str = "model.pt", **more: Any) -> dict[str, Any]:
    """The overlay for the evaluation."""
    return {
        "validate#postprocessing": compose(*after),
        "validate#handlers": [
            {"_target_": "CheckpointLoader", "load_path": f"$@ckpt_dir + '/{file}'", "load_dict": {"model": "@network"}},
            {"_target_": "StatsHandler", "iteration_log": False},
            {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"], "summary_ops": "*"},
        ],
        **more,
        run: ["$@validate#evaluator.run()"],
    }
