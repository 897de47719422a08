"""FGSM, iterative FGSM (untargeted and targeted) and PGD."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.errors import nearest
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images

RULES = ("uniform", "grey_level")
SCHEDULES: dict[str, Callable[[int, int], float]] = {  # length of step k of n in eps
    "linear": lambda k, n: 2 * (1 - (k + 0.5) / n),
    "cosine": lambda k, n: 1 + math.cos(math.pi * (k + 0.5) / n),
    "constant": lambda k, n: 2.5 / n,
}
FALLING = 0.5  # momentum of PGD with falling steps


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step of length eps along the steepest direction.

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015.
    """

    keep: str = "last"

    def step(self, at: Iterate) -> Images:
        """eps in the steepest direction of the norm."""
        return at.x + at.ball.eps * at.ball.direction(at.gradient)


@dataclass(frozen=True, kw_only=True)
class IterativeFGSM(Attack):
    """Small steps from the clean image.

    Args:
        steps: number of steps N of rule ``"uniform"``.
        rule: ``"uniform"`` steps by eps/N; ``"grey_level"`` steps by one 255th of the value range, N = min(eps + 4, ceil(1.25 eps))
            with eps in grey levels (so eps = 16 takes 20 steps).

    Source: Kurakin et al., "Adversarial Examples in the Physical World", 2017 (both rules).
    """

    steps: int = 10
    rule: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")

    @property
    def label(self) -> str:
        """``i-FGSM``, with a target ``ti-FGSM``."""
        return self._named("i-FGSM" if self.target is None else "ti-FGSM")

    def count(self, threat: ThreatModel) -> int:
        """``steps``, or min(eps + 4, ceil(1.25 eps)) for eps in grey levels by the rule ``grey_level``, at least one."""
        if self.rule == "uniform":
            return self.steps
        eps = threat.grey_levels()
        return max(math.ceil(min(eps + 4, math.ceil(round(1.25 * eps, 9)))), 1)

    def step(self, at: Iterate) -> Images:
        """eps / steps in the steepest direction, or one grey level (1/255 of the range) by the rule ``grey_level``."""
        size = at.ball.eps / self.steps if self.rule == "uniform" else at.ball.width / 255
        return at.x + size * at.ball.direction(at.gradient)


@dataclass(frozen=True, kw_only=True)
class TargetedIterativeFGSM(IterativeFGSM):
    """Iterative FGSM towards a target mask; see :data:`monai_advdef.attacks.targets.TARGETS` for the names."""

    target: str | None = "inverted"


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient ascent from a random start, for norms ``linf`` and ``l2``.

    Args:
        objective: soft Dice, as Dice is what is reported.
        steps: number of steps N.
        step_size: length of a step in image units; ``None`` follows the schedule.
        schedule: the length of step k = 0..N-1 where no ``step_size`` is given: ``"linear"``: 2 eps (1 - (k + 1/2) / N), the
            strongest at few steps; ``"cosine"``: eps (1 + cos(pi (k + 1/2) / N)); ``"constant"``: 2.5 eps / N, as in Madry et al.
        random_start: begin at a random point of the ball instead of the clean image.
        momentum: weight of the past in the running sum of the gradients, each scaled to a mean size of 1 per case (Dong et al.,
            "Boosting Adversarial Attacks with Momentum", 2018, equation 6). ``None``: 0.5 where the steps fall, for there it was the
            strongest on most networks (``workflows/suites/README.md``), and 0, as published, where they are of one size.

    Raises:
        ValueError: an argument out of its range; on :func:`run`: an unbounded threat without ``step_size``.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018; the falling schedules are ours.
    """

    objective: str = "dice"
    steps: int = 10
    step_size: float | None = None
    schedule: str = "linear"
    random_start: bool = True
    momentum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; {nearest(str(self.schedule), SCHEDULES)}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}; 0 forgets at once, 0.75 is usual")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be > 0 in image units, got {self.step_size}; null follows the schedule")

    @property
    def label(self) -> str:
        """``PGD dice``; with its momentum where it is told one."""
        return self._named(type(self).__name__ + (f" momentum {self.momentum:g}" if self.momentum else ""))

    @property
    def carried(self) -> float:
        """The momentum that acts."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.schedule == "constant" or self.step_size is not None else FALLING

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """A random point of the ball, or the clean image without ``random_start``."""
        return ball.start(generators) if self.random_start else ball.image.clone()

    def step(self, at: Iterate) -> Images:
        """``step_size`` image units, or what the schedule says, in the steepest direction of the gradient or of its running mean.

        Raises:
            ValueError: an unbounded threat, and no ``step_size``.
        """
        gradient = running(at, self.carried) if self.carried else at.gradient
        if self.step_size is not None:
            return at.x.add_(self.step_size * at.ball.direction(gradient))
        require_bound(at.ball, "step_size must be given")
        return at.x.add_(SCHEDULES[self.schedule](at.number, at.steps) * at.ball.eps * at.ball.direction(gradient))


def require_bound(ball: Ball, remedy: str) -> None:
    """Raises ``ValueError`` for an unbounded threat, of whose eps no step can be a part; ``remedy`` says what helps."""
    if ball.threat.norm == "unbounded":
        raise ValueError(f"{remedy} for an unbounded threat, in image units: there is no eps that a step could be a part of")


def running(at: Iterate, momentum: float) -> Tensor:
    """The running sum of the descent's gradients, each scaled to a mean size of 1 per case, the past weighted by ``momentum``."""
    mean = at.gradient.abs().flatten(1).mean(1).clamp_min(1e-30).reshape((-1,) + (1,) * (at.x.ndim - 1))
    past = at.memory.get("gradient")
    at.memory["gradient"] = at.gradient / mean if past is None else momentum * past + at.gradient / mean
    return at.memory["gradient"]
