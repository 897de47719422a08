"""Adversarial images as a file holds them: 256 levels of the value range, and with what they measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_advdef.attacks import Outcome
from monai_advdef.threat import Ball, ThreatModel, measure

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


def entries(image: Tensor, outcome: Outcome, levels: Ball | None, seconds: float) -> list[dict[str, Any]]:
    """What is kept of every case of an outcome: its adversarial image, its target where it has one, what it measures and cost.

    Args:
        image: (B, C, \\*S) before the attack.
        outcome: of the attack on it.
        levels: the ball on whose 256 levels the images are stored; ``None``: they stay as they are.
        seconds: that each case took.
    """
    adversarial = outcome.adversarial if levels is None else store(outcome.adversarial, levels)
    size = measure(adversarial, image.float())
    per_case = {"score": outcome.score, "linf": size["linf"], "l2": size["l2"], "zero_gradient": outcome.zero_gradient}
    per_case["forwards"], per_case["backwards"] = outcome.passes.unbind(1)
    return [
        {
            "adversarial": adversarial[i].cpu().numpy(),
            **({} if outcome.target is None else {"target": outcome.target[i].cpu().numpy().astype(np.int16)}),
            **{name: values[i].cpu().numpy() for name, values in per_case.items()},
            "seconds": np.array(seconds),
        }
        for i in range(len(image))
    ]


def check_size(threat: ThreatModel, clean: Tensor, adversarial: Tensor, names: Sequence[str], *, levels: bool = False) -> None:
    """Compare what was changed, (B, C, \\*S) before and after, with what ``threat`` allows: every channel with its own budget.

    With ``levels`` (images on 8-bit levels) half a level more is let pass, for clean images that lie between two of them.

    Raises:
        ValueError: a case was changed by more, named with both sizes; no such result may be recorded.
    """
    if threat.norm == "unbounded":
        return
    ball = threat.around(clean.float())
    slack = ball.width.double() / 510 if levels else torch.zeros_like(ball.width, dtype=torch.float64)
    change = adversarial.double() - clean.double()
    if threat.norm == "linf":
        size, allowed = change.abs().flatten(2).amax(2), (ball.exact + slack).flatten(1)
    else:
        size = torch.linalg.vector_norm(change.flatten(1), dim=1)[:, None]
        allowed = float(threat.eps) + slack.flatten(1).amax(1, keepdim=True) * change[0].numel() ** 0.5  # type: ignore[arg-type]
    over = size > allowed.broadcast_to(size.shape) * (1 + 1e-6)
    if bool(over.any()):
        i, k = over.nonzero()[0].tolist()
        raise ValueError(
            f"case {names[i]} was changed by {float(size[i, k]):.6g} in norm {threat.norm}"
            f"{f', channel {k}' if size.shape[1] > 1 else ''}, allowed are {float(allowed.broadcast_to(size.shape)[i, k]):.6g} "
            f"(eps {threat.eps}{' % of the range' if threat.relative else f' {threat.unit}'}); it is not recorded: the attack, or "
            "an image in its cache, leaves the threat model; remove cache_dir and run it again"
        )
