"""Online adversarial training: a part of every batch is attacked with the weights of the moment."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch import Tensor

from monai_advdef.handlers import AttackHandler
from monai_advdef.handlers.attack import MEASURES
from monai_advdef.handlers.cell import Engine
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel


class AdversarialTraining(AttackHandler):
    """Attack some cases of every training batch; the loss of the trainer is then that of the mixed batch.

    Copies are crafted in evaluation mode, in image units, and in every epoch anew; weights and running statistics are not touched.
    Which cases are attacked, and with what budget, depends on ``seed``, the epoch and the names of the cases alone.

    Args:
        attack: see :class:`monai_advdef.handlers.AttackHandler`.
        threat: the largest budget eps.
        prob: with which probability each case is attacked.
        random_eps: draw the budget of each batch from U(0, eps) (Kurakin et al., "Adversarial Machine Learning at Scale", 2017, draw
            it too, so that the network learns every budget); ``False`` always takes eps.
        beside_clean: keep the clean batch and append the copies; with ``prob`` 1 the loss, a mean over cases, is
            ½ J(x) + ½ J(x'). ``False``: a copy replaces its case.
        options: of :class:`monai_advdef.handlers.AttackHandler`, and of the attack.

    Raises:
        ValueError: ``prob`` outside 0..1; a ``cache_dir``; see also :class:`monai_advdef.handlers.AttackHandler`.

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015, section 6; with PGD, Madry et al., "Towards
    Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """

    @as_written
    def __init__(
        self,
        attack: Any = "PGD",
        threat: ThreatModel | None = None,
        *,
        prob: float = 0.5,
        random_eps: bool = True,
        beside_clean: bool = False,
        **options: Any,
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in 0..1, got {prob}; 0.5 attacks every other case")
        super().__init__(attack, threat, **options)
        if self.cache is not None:
            raise ValueError("cache_dir must be left out: weights change with every batch, so no image is met again")
        self.prob = float(prob)
        self.random_eps, self.beside_clean = random_eps, beside_clean
        self.chosen: list[int] = []  # of the current batch

    def __call__(self, engine: Engine) -> None:
        clean = dict(engine.state.batch)
        super().__call__(engine)
        if self.beside_clean and self.chosen:
            clean[self.image_key] = clean[self.image_key].to(engine.state.device)
            copies = decollate_batch(engine.state.batch)
            engine.state.batch = list_data_collate([*decollate_batch(clean), *(copies[i] for i in self.chosen)])

    def _craft(
        self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        draws = [torch.rand(2, generator=torch.Generator().manual_seed(seed + 1)).tolist() for seed in seeds]
        self.chosen = [i for i, (choice, _) in enumerate(draws) if choice < self.prob]
        adversarial = (image.as_tensor() if isinstance(image, MetaTensor) else image).clone()
        columns: dict[str, Any] = {name: [math.nan] * len(image) for name in MEASURES}
        if self.chosen:
            share = draws[self.chosen[0]][1] if self.random_eps else 1.0
            self.threats = [replace(self.threat, eps=_times(self.threat.eps, share))]
            aim = None if target is None else target[self.chosen]
            made, _, found = super()._craft(adversarial[self.chosen], label[self.chosen], aim, [seeds[i] for i in self.chosen])
            adversarial[self.chosen] = made
            for name, values in found.items():
                for i, value in zip(self.chosen, values):
                    columns[name][i] = value
        return adversarial, None, columns


def _times(eps: Any, share: float) -> Any:
    return eps * share if isinstance(eps, (int, float)) else [e * share for e in eps]
