"""The cases of an attacked batch, as the search and the figures read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from monai_advdef.errors import DataError, nearest
from monai_advdef.handlers import AttackHandler, AttackNotApplied
from monai_advdef.metrics import counts, iou
from monai_advdef.types import Images, PerCase
from monai_advdef.victim import Victim

RANKS = ("worst", "median", "best")


class AttackedBatch(NamedTuple):
    """Names, images (B, C, \\*S) in image units before and after the attack, labels and targets as class maps (B, 1, \\*S)."""

    names: list[str]
    clean: Tensor
    adversarial: Tensor
    label: Tensor
    target: Tensor | None


def attacked_batch(engine: Engine, attack: AttackHandler) -> AttackedBatch:
    """The current batch of an evaluator that ``attack`` is attached to.

    Raises:
        AttackNotApplied: the attack did not touch this batch.
    """
    attacked = getattr(engine.state, "attack", None)
    if attacked is None or attacked.iteration != engine.state.iteration:
        raise AttackNotApplied(
            f"{attack.label} is configured but did not touch batch {engine.state.iteration}: put '@attack_def' among "
            "validate::handlers, after the CheckpointLoader"
        )
    batch: Any = engine.state.batch
    image, label = (_plain(batch[k]).to(attacked.clean.device) for k in (attack.image_key, attack.label_key))
    return AttackedBatch(attack.cases.names(batch), attacked.clean.float(), image.float(), label, attacked.target)


def deployed(engine: Any, attack: AttackHandler) -> Victim:
    """The evaluator's network and inferer as one function of the image, with the head that the attack was told of."""
    view = attack.view
    return Victim(engine.network, view.normalize, inferer=engine.inferer, activation=view.activation)


def overlap(victim: Victim, logits: Tensor, label: Tensor) -> PerCase:
    """IoU of prediction and label per case, mean over the foreground classes."""
    return iou(*counts(victim.predict(logits), victim.encode(label, logits), victim.classes(logits))).mean(1)


def check_cases(evaluator: Any, section: str) -> None:
    """Raises ``DataError`` where the evaluator has no case to see."""
    if len(evaluator.data_loader.dataset) == 0:
        raise DataError(f"there is no {section} case; give the {section} section at least two cases (split.csv, or more images)")


def picture(image: Images) -> np.ndarray:
    """One image (C, W, H) as MONAI keeps it, as (H, W) or (H, W, C) in the order of a picture."""
    return image.detach().cpu().permute(2, 1, 0).squeeze(-1).numpy()


def _plain(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else torch.as_tensor(x)


def pick(change: Mapping[str, float], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Name and description of each wanted case: a name, or ``worst``, ``median`` or ``best`` by how the attack changed its score.

    Raises:
        DataError: no such case.
    """
    ordered = sorted(change, key=lambda name: (change[name], name))
    ranked = dict(zip(RANKS, (ordered[0], ordered[len(ordered) // 2], ordered[-1])))
    for name in wanted:
        if name not in ranked and name not in change:
            raise DataError(f"no case is called {name!r}; {nearest(name, [*RANKS, *change])}")
    said = {"worst": "largest loss", "median": "median loss", "best": "smallest loss"}
    return [(ranked.get(name, name), said.get(name, "")) for name in wanted]
