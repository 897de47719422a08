"""Offline adversarial training: fixed adversarial copies of the training images, a data set beside the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn

from monai_advdef.handlers import AttackHandler
from monai_advdef.handlers.cell import Engine


def adversarial_copies(
    dataset: torch.utils.data.Dataset,
    network: nn.Module,
    attacks: Sequence[AttackHandler],
    *,
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    inferer: Any = None,
) -> list[dict[str, Any]]:
    """One adversarial copy of each case per attack, for a data set of their own.

    With a ``cache_dir`` each attack crafts every copy once: a killed run goes on where it stopped, and the next one crafts none.

    Args:
        dataset: cases with ``image`` in image units and ``label``, without random transforms.
        network: the undefended network, trained.
        attacks: what to do to each case.
        inferer: how the network is applied; ``None`` applies it to the whole image.

    Returns:
        The cases as ``dataset`` gives them with their image replaced, (C, \\*S) in image units on the CPU; attack by attack.

    Raises:
        See :func:`monai_advdef.run`.

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015; Kurakin et al., "Adversarial Examples in the
    Physical World", 2017. The copies stay those of the undefended network.
    """
    cases: list[dict[str, Any]] = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
    copies: list[dict[str, Any]] = []

    def keep(engine: Engine, batch: dict[str, Any]) -> dict[str, Any]:
        for x in batch["image"].cpu():
            case = cases[len(copies) % len(cases)]
            clean = case["image"]
            copies.append({**case, "image": MetaTensor(x).copy_meta_from(clean) if isinstance(clean, MetaTensor) else x})
        return {}

    for attack in attacks:
        SupervisedEvaluator(
            device=torch.device(device),
            val_data_loader=DataLoader(Dataset(cases), batch_size=batch_size),
            network=network,
            inferer=inferer,
            iteration_update=keep,
            val_handlers=[attack],
        ).run()
    return copies
