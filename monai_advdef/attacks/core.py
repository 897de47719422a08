"""The one loop of the house. An attack says where to start and how to step; everything else happens here, once."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.targets import check_target_name, make_target
from monai_advdef.metrics import mean_dice
from monai_advdef.objectives import objective
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images, PerCase
from monai_advdef.victim import Victim, average


@dataclass
class Iterate:
    """What an attack sees when it makes its step: the image, the gradient there, the logits and what is aimed at."""

    x: Tensor
    gradient: Tensor
    logits: Tensor
    aim: Tensor
    number: int
    ball: Ball
    victim: Victim
    memory: dict[str, Tensor] = field(default_factory=dict)  # what the attack keeps from step to step of one descent


@dataclass
class Outcome:
    """What :func:`run` returns.

    Attributes:
        adversarial: images (B, C, \\*S), inside the threat model, without NaN.
        score: (B,) success in [0, 1]: 1 - Dice to the label, or, targeted, Dice to the target (mean over foreground classes). Behind
            a stochastic defence that of the mean logits over fresh draws.
        size: (B,) measured size in the threat's norm (l2 for an unbounded threat), float64.
        trace: (evaluations, B) the score of every iterate looked at, in order.
        forwards, backwards: passes spent on each case, every draw of a stochastic defence being one.
        seed: what the random numbers came from.
        target: what a targeted attack aimed at, else ``None``.
    """

    adversarial: Tensor
    score: Tensor
    size: Tensor
    trace: Tensor
    forwards: int
    backwards: int
    seed: int | list[int]
    target: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A step rule. Subclasses give :meth:`init` and :meth:`step` and inherit the rest.

    Args:
        objective: name of a per-case loss in :mod:`monai_advdef.objectives`.
        target: ``None`` (untargeted) or the name of a target in :mod:`monai_advdef.attacks.targets`.
        restarts: how often to begin anew; the best of all is kept per case.
        keep: ``"best"`` iterate per case, or the ``"last"`` one (as most papers' code does).
    """

    objective: str = "cross_entropy"
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
        """The name with what tells it from its siblings: an unusual objective, a target."""
        usual = type(self).__dataclass_fields__["objective"].default
        return name + (f" {self.objective}" if self.objective != usual else "") + (f" to {self.target}" if self.target else "")

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

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str) -> PerCase:
        """What the gradient raises."""
        return objective(self.objective, head)(logits, aim, targeted)

    def rank(self, at: Iterate, score: PerCase) -> PerCase:
        """What decides which iterate is best; ties are broken by the loss."""
        return score


@dataclass
class _Best:
    """The best iterate of every case so far."""

    x: Tensor
    rank: Tensor
    value: Tensor
    score: Tensor
    trace: list[Tensor] = field(default_factory=list)

    def consider(self, x: Tensor, rank: Tensor, value: Tensor, score: Tensor, *, force: bool = False) -> None:
        self.trace.append(score)
        better = (rank > self.rank) | ((rank == self.rank) & (value > self.value))
        if force:
            better = torch.ones_like(better)
        if bool(better.all()):
            self.x.copy_(x)
        elif bool(better.any()):
            self.x[better] = x[better]
        for mine, theirs in ((self.rank, rank), (self.value, value), (self.score, score)):
            torch.where(better, theirs, mine, out=mine)


def run(
    attack: Attack,
    victim: Victim,
    threat: ThreatModel,
    image: Images,
    label: Tensor,
    *,
    target: Tensor | None = None,
    seed: int | Sequence[int] = 0,
) -> Outcome:
    """Attack a batch.

    Args:
        attack, victim, threat: who does what to whom, and within which bounds.
        image: (B, C, \\*S) in image units.
        label: (B, 1, \\*S) class map, or one-hot or multi-label (B, K, \\*S).
        target: like ``label``; makes any attack a targeted one.
        seed: one whole number, or one per case. A case's result depends on its own seed alone, never on its batch.

    Raises:
        ValueError: pixels that are NaN, out of range or in another unit; labels outside the classes; a target that is missing.
    """
    seeds = [int(seed)] * len(image) if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != len(image):
        raise ValueError(f"seed has {len(seeds)} numbers for {len(image)} cases; give one, or one per case")
    with victim.frozen():
        return _Run(attack, victim, threat, _plain(image), _plain(label), target, seeds).outcome(seed)


class _Run:
    """One call of :func:`run`: owns the counters and the best iterates."""

    def __init__(
        self,
        attack: Attack,
        victim: Victim,
        threat: ThreatModel,
        image: Tensor,
        label: Tensor,
        target: Tensor | None,
        seeds: list[int],
    ) -> None:
        self.attack, self.victim, self.ball, self.threat = attack, victim, threat.around(image), threat
        self.forwards = self.backwards = 0
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.label, self.given = label, None if target is None else _plain(target)
        self.targeted = target is not None or attack.target is not None
        self.aim: Tensor | None = None
        nothing = torch.full((len(image),), -torch.inf, device=image.device)
        self.best = _Best(image.clone(), nothing, nothing.clone(), torch.zeros_like(nothing))

    def outcome(self, seed: Any) -> Outcome:
        for _ in range(self.attack.restarts):
            self._descend()
        best, attack = self.best, self.attack
        approximate = self.victim.step_precision != "float32" or self.victim.stochastic
        if approximate and attack.keep == "best":
            best.score = self._score(self._judge(best.x)[0])
        return Outcome(
            best.x,
            best.score,
            self.ball.size(best.x),
            torch.stack(best.trace),
            self.forwards,
            self.backwards,
            seed if isinstance(seed, int) else list(seed),
            self.aim if self.targeted else None,
        )

    def _descend(self) -> None:
        attack, ball = self.attack, self.ball
        x = ball.project(attack.init(ball, self.generators))
        memory: dict[str, Tensor] = {}
        for number in range(attack.count(self.threat)):
            logits, value, gradient = attack.gradient(self.victim, x, self._loss, self.generators)
            self.forwards, self.backwards = self.forwards + self.victim.passes, self.backwards + self.victim.passes
            at = Iterate(x, _finite(gradient), logits, self._aim(logits), number, ball, self.victim, memory)
            if attack.keep == "best":
                self._consider(at, value)
            x = ball.project(attack.step(at))
        logits, value = self._judge(x)
        at = Iterate(x, x, logits, self._aim(logits), attack.count(self.threat), ball, self.victim)
        self._consider(at, value, force=attack.keep == "last" and attack.restarts == 1)

    def _consider(self, at: Iterate, value: Tensor, force: bool = False) -> None:
        score = self._score(at.logits)
        self.best.consider(at.x, self.attack.rank(at, score), value, score, force=force)

    def _judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and loss of ``x`` by the deployed forward, in float32; of a stochastic defence their means over fresh draws."""
        with torch.no_grad():
            logits, value = average((out, self._loss(out)) for out in self._looks(x))
        return logits, value

    def _looks(self, x: Tensor) -> Iterator[Tensor]:
        """The logits of ``x``, once, or for as many draws as a stochastic defence is looked at."""
        for _ in range(self.victim.passes):
            self.forwards += 1
            yield self.victim(x, self.generators)

    def _loss(self, logits: Tensor) -> Tensor:
        return self.attack.loss(logits, self._aim(logits), self.targeted, self.victim.activation)

    def _score(self, logits: Tensor) -> Tensor:
        overlap = mean_dice(self.victim.predict(logits), self._aim(logits), self.victim.classes(logits))
        return overlap if self.targeted else 1 - overlap

    def _aim(self, logits: Tensor) -> Tensor:
        """The label, or the target, encoded once the first logits say how many classes there are."""
        if self.aim is None:
            label = self.victim.encode(self.label, logits)
            if not self.targeted:
                self.aim = label
            elif self.given is not None:
                self.aim = self.victim.encode(self.given, logits, "target")
            else:
                with torch.no_grad():
                    (clean,) = average((out,) for out in self._looks(self.ball.image))
                self.aim = make_target(str(self.attack.target), label, clean, self.victim.activation)
        return self.aim


def _finite(gradient: Tensor) -> Tensor:
    if bool(torch.isfinite(gradient.sum())):
        return gradient
    warnings.warn(
        "the gradient holds NaN or infinite values, taken as 0: suspect gradient masking, or a network that overflows", stacklevel=4
    )
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0)


def _plain(x: Tensor) -> Tensor:
    """A detached plain float32 tensor (no MetaTensor: gradients would carry its metadata along)."""
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    return x.detach().float() if not torch.is_inference(x) else x.detach().float().clone()
