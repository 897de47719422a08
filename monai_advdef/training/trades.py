"""TRADES: the network is accurate on clean images, and says the same about their worst neighbours."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.attacks import PGD, run
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel
from monai_advdef.training.adversarial import AdversarialTraining
from monai_advdef.types import Logits, PerCase


def divergence(clean: Logits, other: Logits) -> PerCase:
    """KL(p ‖ p') of the softmax of two logits (B, K, \\*S), mean over the pixels of each case."""
    p, q = clean.log_softmax(1), other.log_softmax(1)
    return (p.exp() * (p - q)).sum(1).flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class _DivergencePGD(PGD):
    """PGD that raises the divergence from the logits ``clean`` (B, K, \\*S); the label plays no part."""

    clean: Tensor

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        return divergence(self.clean, logits)


class TRADES(AdversarialTraining):
    """Append to every batch the neighbours x' that raise KL(p(x) ‖ p(x')) most; train with :class:`TRADESLoss`.

    The inner maximisation is PGD on the divergence from the prediction for the clean image, in evaluation mode. It starts at a
    random point of the ball (at x itself the gradient of the divergence is 0), where the published code starts within a thousandth
    of the value range of x.

    Args:
        threat: norm, budget and range.
        steps, step_size: of equal steps, see :class:`monai_advdef.attacks.PGD`; ``None``: 2.5 eps / steps.
        random_start: must be true.
        options: of :class:`monai_advdef.handlers.AttackHandler`.

    Raises:
        ValueError: a sigmoid head; a start at the clean image.

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", 2019, algorithm 1.
    """

    @as_written
    def __init__(
        self,
        threat: ThreatModel | None = None,
        *,
        steps: int = 5,
        step_size: float | None = None,
        random_start: bool = True,
        **options: Any,
    ) -> None:
        if options.get("activation", "softmax") != "softmax":
            raise ValueError(f"activation must be 'softmax', got {options['activation']!r}; use AdversarialTraining for other heads")
        if not random_start:
            raise ValueError("random_start must be true: at the clean image the divergence has no gradient")
        attack = PGD(objective="cross_entropy", steps=steps, step_size=step_size, schedule="constant", keep="last")
        super().__init__(attack, threat, prob=1.0, random_eps=False, beside_clean=True, **options)

    def _attack(self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]) -> list[list[dict[str, Any]]]:
        victim = self._victim
        assert victim is not None
        with victim.frozen(), torch.no_grad():
            attack = _DivergencePGD(clean=victim(image), **asdict(self.attack))
        return [self._entries(image, run(attack, victim, self.threat, image, label, seed=seeds), math.nan)]


class TRADESLoss(nn.Module):
    """loss(f(x), y) + β KL(p(x) ‖ p(x')) of a batch whose second half are the neighbours of the first, in its order.

    The gradient flows through both predictions. Of several heads the first, which is deployed, enters the divergence. Clean images
    and neighbours pass the network as one batch, so that batch normalisation sees both.

    Args:
        loss: of (prediction, label), a mean over cases.
        beta: β, the weight of robustness.

    Raises:
        ValueError: ``beta`` below 0; a batch whose halves have different labels.
    """

    def __init__(self, loss: nn.Module, *, beta: float = 6.0) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta must be ≥ 0, got {beta}; 6 is usual")
        self.loss, self.beta = loss, float(beta)

    def forward(self, prediction: Any, label: Tensor) -> Tensor:
        """Loss of the clean half of the batch plus beta times the divergence of the attacked half from it.

        Raises:
            ValueError: the second half of the batch does not belong to the first.
        """
        half = len(label) // 2
        if len(label) % 2 or not torch.equal(label[:half], label[half:]):
            raise ValueError("the second half of the batch does not belong to the first; put the TRADES handler into the trainer")
        several = isinstance(prediction, (list, tuple))
        deployed = prediction[0] if several else prediction
        clean = [p[:half] for p in prediction] if several else prediction[:half]
        return self.loss(clean, label[:half]) + self.beta * divergence(deployed[:half], deployed[half:]).mean()
