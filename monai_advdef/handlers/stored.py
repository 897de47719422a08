"""Adversarial images as a file holds them: 256 levels of the value range."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.threat import Ball

STORED = ("float32", "uint8")


def store(adversarial: Tensor, ball: Ball) -> Tensor:
    """``adversarial`` (B, C, \\*S) on the nearest of the 256 levels of the value range that the threat model allows.

    Where the nearest level lies outside the ball, the next one towards the clean image is taken; if no level lies inside (a clean
    image between two levels, and an eps smaller than the step), the nearest stays, and the measured size says so.

    Raises:
        ValueError: the value range is each image's own, which no 8-bit file knows.
    """
    if isinstance(ball.threat.value_range, str):
        raise ValueError(
            f"stored 'uint8' needs a numeric value_range, got {ball.threat.value_range!r}; give (low, high) in image units"
        )
    low = ball.threat.bounds(ball.image)[0].to(adversarial)
    step = ball.width / 255
    level = ((adversarial - low) / step).round()
    highest, lowest = ((ball.upper - low) / step + 1e-4).floor(), ((ball.lower - low) / step - 1e-4).ceil()
    return low + torch.where(lowest <= highest, level.clamp(lowest, highest), level) * step
