"""What an attack is: where to start and how to step, and what it hands back. The loop is in :mod:`monai_advdef.attacks.loop`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.targets import check_target_name
from monai_advdef.objectives import objective
from monai_advdef.switches import AsWritten
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images, PerCase
from monai_advdef.victim import Victim

USUAL = "cross_entropy"  # the objective that goes without saying in the name of an attack


@dataclass
class Iterate:
    """What an attack sees when it makes its step, of the cases that are still attacked: others leave the batch when they are won.

    Attributes:
        x: (B, C, \\*S) where it stands.
        gradient: (B, C, \\*S) of the loss at ``x``.
        logits: (B, K, \\*S) at ``x``.
        aim: the label, or the target, in the form of the objectives.
        value: (B,) the loss that the gradient raises, at ``x``.
        number: of this step in its descent, from 0.
        steps: how many this descent takes.
        ball: the images that are allowed.
        victim: who is attacked.
        memory: what the attack keeps from step to step of one descent; the first dimension of every tensor counts the cases.
    """

    x: Tensor
    gradient: Tensor
    logits: Tensor
    aim: Tensor
    value: Tensor
    number: int
    steps: int
    ball: Ball
    victim: Victim
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Outcome:
    """What :func:`monai_advdef.run` returns.

    Attributes:
        adversarial: images (B, C, \\*S), inside the threat model, without NaN.
        score: (B,) success in [0, 1]: 1 - Dice to the label, or, targeted, Dice to the target (mean over foreground classes). Behind
            a stochastic defence that of the mean logits over fresh draws; of a network that itself draws the mean over fresh draws.
        size: (B,) measured size in the threat's norm (l2 for an unbounded threat), float64.
        trace: (evaluations, B) the score of every iterate looked at, in order; of a case that has been won, and so left, its score.
        forwards, backwards: passes spent on a case, every draw of a stochastic defence being one; the most that any case took.
        passes: (B, 2) the forward and backward passes of each case: a case that is won takes no more.
        seed: what the random numbers came from.
        zero_gradient: (B,) the share of the entries of the gradient that are exactly 0, mean over the steps; NaN without steps.
        shared: how many of ``backwards`` were computed once for this and another threat model (see :func:`run_sweep`).
        target: what a targeted attack aimed at, else ``None``.
    """

    adversarial: Tensor
    score: Tensor
    size: Tensor
    trace: Tensor
    forwards: int
    backwards: int
    passes: Tensor
    seed: int | list[int]
    zero_gradient: Tensor
    shared: int = 0
    target: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Attack(metaclass=AsWritten):
    """A step rule. Subclasses give :meth:`init` and :meth:`step` and inherit the rest.

    Args:
        objective: name of a per-case loss in :mod:`monai_advdef.objectives`.
        target: ``None`` (untargeted) or the name of a target in :mod:`monai_advdef.attacks.targets`.
        restarts: how often to begin anew; the best of all is kept per case.
        keep: ``"best"`` iterate per case, or the ``"last"`` one (as most papers' code does).
    """

    objective: str = USUAL
    target: str | None = None
    restarts: int = 1
    keep: str = "best"

    def __post_init__(self) -> None:
        objective(self.objective)
        check_target_name(self.target)
        if self.keep not in ("best", "last"):
            raise ValueError(f"keep must be 'best' or 'last', got {self.keep!r}")
        for name in ("restarts", "steps"):
            count = getattr(self, name, 1)
            if count is not None and (not isinstance(count, int) or count < 1):
                raise ValueError(f"{name} must be a whole number ≥ 1, got {count!r}")

    @property
    def label(self) -> str:
        """Short name for tables and legends."""
        return self._named(type(self).__name__)

    def _named(self, name: str) -> str:
        """The name with what tells it from its siblings: an objective other than cross-entropy, a target."""
        return name + (f" {self.objective}" if self.objective != USUAL else "") + (f" to {self.target}" if self.target else "")

    def to_config(self) -> dict[str, Any]:
        """The attack as a plain ``_target_`` configuration."""
        return {"_target_": f"monai_advdef.attacks.{type(self).__name__}", **dataclasses.asdict(self)}

    def count(self, threat: ThreatModel) -> int:
        """How many steps to take under ``threat``."""
        return getattr(self, "steps", 1)

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """Where to start; the clean image unless an attack says otherwise."""
        return ball.image.clone()

    def gradient(
        self, victim: Victim, x: Images, loss: Callable[[Tensor], Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, losses and the gradient that `step` is given; at ``x`` unless an attack says otherwise."""
        return victim.gradient(x, loss, generators)

    def step(self, at: Iterate) -> Images:
        """The next iterate, before projection."""
        raise TypeError(f"{type(self).__name__} takes no steps")

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """What the gradient raises, (B,), when the share ``done`` of the descent lies behind."""
        return objective(self.objective, head)(logits, aim, targeted)

    def rank(self, at: Iterate, score: PerCase) -> PerCase:
        """What decides which iterate is best; ties are broken by the loss."""
        return score
