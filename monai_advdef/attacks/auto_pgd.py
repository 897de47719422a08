"""Auto-PGD: steps that halve themselves when they stop paying, with momentum, from the best point so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.attacks.gradient import require_bound
from monai_advdef.threat import Ball
from monai_advdef.types import Images

PAST = 0.25  # 1 - alpha: weight of the last change in the next one
RISING = 0.75  # rho: the share of the steps that must have raised the loss


@dataclass(frozen=True, kw_only=True)
class AutoPGD(Attack):
    """Ascent with momentum whose step, 2 eps at first, is halved per case at checkpoints where the loss no longer rises.

    ``z = P(x + step * direction)``, ``x <- P(x + 3/4 (z - x) + 1/4 (x - previous x))``. At a checkpoint a case halves its step and
    goes back to its point of highest loss if no more than 3/4 of the steps since the last one raised the loss, or if neither its
    step nor its highest loss has changed since then. The checkpoints lie at 22 % of the steps, then 19 %, 16 %, ... further, and
    never less than 6 %.

    Args:
        objective: soft Dice, as Dice is what is reported.
        steps: number of steps N; the checkpoints need some: below about 10 :class:`PGD` with its falling steps is stronger.
        random_start: begin at a random point of the ball instead of the clean image.

    Raises:
        ValueError: an argument out of its range; on :func:`run`: an unbounded threat.

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", 2020,
    algorithm 1; in what the two leave open, or differ in, as their code (at most 3/4 where the paper says fewer).
    """

    objective: str = "dice"
    steps: int = 100
    random_start: bool = True

    @property
    def label(self) -> str:
        """``Auto-PGD dice``."""
        return self._named("Auto-PGD")

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """A random point of the ball, or the clean image without ``random_start``.

        Raises:
            ValueError: the threat has no bound.
        """
        require_bound(ball, "Auto-PGD makes its steps from eps; choose norm 'linf' or 'l2', or PGD with a step_size")
        return ball.start(generators) if self.random_start else ball.image.clone()

    def step(self, at: Iterate) -> Images:
        """A step of the case's own length with momentum, from the best point where the length has just been halved."""
        if at.number == 0:
            at.memory.update(_first(at))
        else:
            _take_note(at)
        x, gradient = at.x.clone(), at.gradient
        if at.number in checkpoints(at.steps):
            halved = _per_case(_halve(at.memory), x)
            x, gradient = torch.where(halved, at.memory["best x"], x), torch.where(halved, at.memory["best gradient"], gradient)
        length = _per_case(at.memory["length"], x) * at.ball.eps
        ahead = at.ball.project(x + length * at.ball.direction(gradient))
        if at.number > 0:
            ahead = x + (1 - PAST) * (ahead - x) + PAST * (x - at.memory["previous x"])
        at.memory["previous x"] = x
        return ahead


@cache
def checkpoints(steps: int) -> frozenset[int]:
    """The steps before which lengths are looked at again: after 22 % of all, then 3 % less each time, at least 6 %, in whole steps.

    Source: Croce & Hein 2020, section 3.2; rounded down, and at least 1, as their code does.
    """
    gap, less, least = (max(math.floor(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, place = set(), gap
    while place < steps:
        found.add(place)
        gap = max(gap - less, least)
        place += gap
    return frozenset(found)


def _first(at: Iterate) -> dict[str, Tensor]:
    """What is kept of every case, at the start; lengths are in eps."""
    value = at.value
    zeros = torch.zeros_like(value)
    return {
        "length": torch.full_like(value, 2.0),
        "best x": at.x.clone(),
        "best gradient": at.gradient.clone(),
        "best": value.clone(),
        "last": value.clone(),
        "rose": zeros,  # how many steps since the last checkpoint raised the loss
        "taken": zeros.clone(),
        "best then": torch.full_like(value, torch.inf),  # at the last checkpoint; at the first one there is no such condition
        "halved then": torch.ones_like(value, dtype=torch.bool),
        "previous x": at.x.clone(),
    }


def _take_note(at: Iterate) -> None:
    """What the last step has brought."""
    kept, value = at.memory, at.value
    better = value > kept["best"]
    kept["rose"] = kept["rose"] + (value > kept["last"])
    kept["taken"], kept["last"] = kept["taken"] + 1, value
    kept["best"] = torch.where(better, value, kept["best"])
    where = _per_case(better, at.x)
    kept["best x"] = torch.where(where, at.x, kept["best x"])
    kept["best gradient"] = torch.where(where, at.gradient, kept["best gradient"])


def _halve(kept: dict[str, Tensor]) -> Tensor:
    """Halve the length of the cases that need it, (B,) bool, and begin to count anew."""
    stalled = ~kept["halved then"] & (kept["best"] <= kept["best then"])
    halved = (kept["rose"] <= RISING * kept["taken"]) | stalled
    kept["length"] = torch.where(halved, kept["length"] / 2, kept["length"])
    kept["rose"], kept["taken"] = torch.zeros_like(kept["rose"]), torch.zeros_like(kept["taken"])
    kept["halved then"], kept["best then"] = halved, kept["best"]
    return halved


def _per_case(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape((-1,) + (1,) * (like.ndim - 1))
