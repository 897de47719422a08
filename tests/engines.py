"""Small MONAI engines on made-up images: what the tests of the handlers share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from conftest import blobs
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted, Compose
from torch import nn

from monai_advdef.networks.standardized import Standardized


def network(trained: nn.Module) -> nn.Module:
    """A copy of the small victim that takes grey levels."""
    return Standardized(copy.deepcopy(trained), mean=127.5, std=127.5)


def items(cases: int = 6, meta: bool = True, seed: int = 2) -> list[dict[str, Any]]:
    """A data list of ``blobs`` with names, as MetaTensors or plain tensors."""
    wrap = (lambda x, i: MetaTensor(x, meta={"filename_or_obj": f"case_{i}.png"})) if meta else (lambda x, i: x)
    pairs = zip(*blobs(cases, seed=seed))
    return [
        {"image": wrap(x, i), "label": wrap(y, i), "case": f"case_{i}", "patient": f"patient_{i // 2}"}
        for i, (x, y) in enumerate(pairs)
    ]


def loader(data: list[dict[str, Any]], batch_size: int = 3) -> DataLoader:
    return DataLoader(Dataset(data), batch_size=batch_size, num_workers=0)


def evaluator(
    net: nn.Module, handlers: list[Any], *, data: Any = None, batch_size: int = 3, inferer: Any = None, after: Sequence[Any] = ()
) -> SupervisedEvaluator:
    """An evaluator as a bundle's: argmax, one-hot (and the transforms ``after`` them), Dice of the foreground."""
    to_masks = Compose([AsDiscreted(keys=["pred", "label"], argmax=[True, False], to_onehot=2), *after])
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(items() if data is None else data, batch_size),
        network=net,
        inferer=inferer or SimpleInferer(),
        postprocessing=to_masks,
        key_val_metric={"val_dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))},
        val_handlers=handlers,
    )
