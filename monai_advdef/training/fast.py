"""The attack of fast adversarial training: one step of more than eps from a random point of the ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monai_advdef.attacks import FGSM
from monai_advdef.attacks.core import Iterate
from monai_advdef.threat import Ball
from monai_advdef.types import Images


@dataclass(frozen=True, kw_only=True)
class FastGradient(FGSM):
    """FGSM from a random point of the ball, with a step of ``stretch`` eps, projected; one backward pass a batch.

    Args:
        stretch: length of the step in eps. From 1.5 or so on training tends to overfit to this one step; let
            :class:`monai_advdef.training.OverfittingWatch` look on.

    Raises:
        ValueError: ``stretch`` not above 0; when it runs, an unbounded threat.

    Source: Wong et al., "Fast is better than free: Revisiting adversarial training", ICLR 2020, algorithm 3 (alpha = 1.25 eps).
    """

    stretch: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stretch > 0:
            raise ValueError(f"stretch must be > 0, got {self.stretch}; 1.25 is published")

    def to_config(self) -> dict[str, Any]:
        """The attack as a plain ``_target_`` configuration."""
        return {**super().to_config(), "_target_": "monai_advdef.training.FastGradient"}

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """A random point of the ball."""
        return ball.start(generators)

    def step(self, at: Iterate) -> Images:
        """``stretch`` eps in the steepest direction of the norm."""
        return at.x + self.stretch * at.ball.eps * at.ball.direction(at.gradient)
