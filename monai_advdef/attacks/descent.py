"""One attack under one threat model on its way: where every case stands, what it has cost, and the best iterates so far."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate, Outcome
from monai_advdef.attacks.targets import make_target
from monai_advdef.metrics import mean_dice
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim, average


@dataclass
class Best:
    """The best iterate of every case so far."""

    x: Tensor
    rank: Tensor
    value: Tensor
    score: Tensor
    trace: list[Tensor] = field(default_factory=list)

    def consider(self, cases: Tensor, at: Iterate, rank: Tensor, value: Tensor, score: Tensor, *, force: bool = False) -> None:
        """Keep what is better; all but ``cases`` (indices, (B',)) are as they were, in the trace as well."""
        self.trace.append(self.score.index_copy(0, cases, score))
        before = self.rank[cases]
        better = (rank > before) | ((rank == before) & (value > self.value[cases]))
        if force:
            better = torch.ones_like(better)
        if bool(better.all()) and len(cases) == len(self.x):
            self.x.copy_(at.x)
        elif bool(better.any()):
            self.x[cases[better]] = at.x[better]
        for mine, theirs in ((self.rank, rank), (self.value, value), (self.score, score)):
            mine[cases] = torch.where(better, theirs, mine[cases])


class Run:
    """An attack under one threat model. Cases that are won leave: ``x``, ``memory``, ``ball`` and ``goal`` are those of the rest."""

    def __init__(
        self,
        attack: Attack,
        victim: Victim,
        threat: ThreatModel,
        image: Tensor,
        label: Tensor,
        target: Tensor | None,
        seeds: list[int],
        start: Tensor | None = None,
    ) -> None:
        self.attack, self.victim, self.steps = attack, victim, attack.count(threat)
        self.ball = self.whole = threat.around(image)
        self.begin = None if start is None else self.whole.admit(start.to(image.device), "start")
        self.cases = torch.arange(len(image), device=image.device)
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.label, self.given = label, target
        self.targeted = target is not None or attack.target is not None
        self.aim = self.goal = None  # type: Tensor | None
        self.passes, self.shared, self.descents = torch.zeros(len(image), 2, dtype=torch.int64), 0, 0
        nothing = torch.full((len(image),), -torch.inf, device=image.device)
        self.best = Best(image.clone(), nothing, nothing.clone(), torch.zeros_like(nothing))
        self.x, self.memory, self.zeros = image, {}, torch.zeros_like(nothing)  # type: Tensor, dict[str, Tensor], Tensor

    def start(self) -> None:
        """Where a descent begins."""
        self.descents += 1
        if len(self.cases):
            begin = self.attack.init(self.ball, self.generators) if self.begin is None else self.begin[self.cases]
            self.x, self.memory = self.ball.project(begin), {}

    def goes_on(self, number: int) -> bool:
        """Whether there is a step ``number``, and a case to take it."""
        return number < self.steps and len(self.cases) > 0

    def stands_with(self, other: Run) -> bool:
        """Whether both are at the same images of the same cases."""
        return torch.equal(self.cases, other.cases) and torch.equal(self.x, other.x)

    def look(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, losses and gradient where the run stands, before step ``number``."""
        done = number / self.steps
        return self.attack.gradient(self.victim, self.x, lambda logits: self._loss(logits, done), self.generators)

    def advance(self, logits: Tensor, value: Tensor, gradient: Tensor, number: int, *, shared: bool) -> None:
        """Take note of what was found, make the step, and let go of the cases that are won."""
        self._spend(self.victim.passes, self.victim.passes)
        self.shared += self.victim.passes * shared
        self.zeros[self.cases] += (gradient == 0).flatten(1).float().mean(1)
        at = self._iterate(_finite(gradient), logits, value, number, self.memory)
        if self.attack.keep == "best":
            self._consider(at)
        self.x = self.ball.project(self.attack.step(at))
        self._let_go()

    def finish(self) -> None:
        """Take note of where the descent ended."""
        if len(self.cases):
            logits, value = self._judge(self.x, done=1.0)
            self._consider(
                self._iterate(self.x, logits, value, self.steps, {}),
                force=self.attack.keep == "last" and self.attack.restarts == 1,
            )
            self._let_go()
        while self._may_leave and len(self.best.trace) < self.descents * (self.steps + 1):
            self.best.trace.append(self.best.score.clone())

    def outcome(self, seed: Any) -> Outcome:
        """What came of it."""
        best = self.best
        if self.victim.random:  # deployed, it answers by one draw
            with torch.no_grad():
                (best.score,) = average((self._score(logits),) for logits in self._looks(best.x))
        elif self._approximate and self.attack.keep == "best":
            best.score = self._score(self._judge(best.x, done=1.0)[0])
        forwards, backwards = self.passes.amax(0).tolist()
        steps = (self.passes[:, 1] / self.victim.passes).to(self.zeros)
        return Outcome(
            adversarial=best.x,
            score=best.score,
            size=self.whole.size(best.x),
            trace=torch.stack(best.trace),
            forwards=forwards,
            backwards=backwards,
            passes=self.passes,
            seed=seed,
            zero_gradient=self.zeros / steps,  # NaN where none was taken
            shared=self.shared,
            target=self.aim if self.targeted else None,
        )

    @property
    def _approximate(self) -> bool:
        """Whether the scores along the way are not yet those of the deployed forward."""
        return self.victim.step_precision != "float32" or self.victim.stochastic

    @property
    def _may_leave(self) -> bool:
        """Whether a case with score 1 has nothing left to gain."""
        return self.attack.keep == "best" and type(self.attack).rank is Attack.rank and not self._approximate

    def _let_go(self) -> None:
        if not self._may_leave or bool((rest := self.best.score[self.cases] < 1).all()):
            return
        self.cases, self.x, self.ball = self.cases[rest], self.x[rest], self.ball.only(rest)
        self.goal = None if self.goal is None else self.goal[rest]
        self.memory = {name: kept[rest] for name, kept in self.memory.items()}
        self.generators = [generator for generator, stays in zip(self.generators, rest.tolist()) if stays]

    def _spend(self, forwards: int, backwards: int = 0) -> None:
        self.passes[self.cases.cpu()] += torch.tensor([forwards, backwards])

    def _iterate(self, gradient: Tensor, logits: Tensor, value: Tensor, number: int, memory: dict[str, Tensor]) -> Iterate:
        aim = self._aim(logits)
        return Iterate(self.x, gradient, logits, aim, value, number, self.steps, self.ball, self.victim, memory)

    def _consider(self, at: Iterate, force: bool = False) -> None:
        score = self._score(at.logits)
        self.best.consider(self.cases, at, self.attack.rank(at, score), at.value, score, force=force)

    def _judge(self, x: Tensor, done: float) -> tuple[Tensor, Tensor]:
        """Logits and loss of ``x`` by the deployed forward, in float32; of a stochastic defence their means over fresh draws."""
        with torch.no_grad():
            logits, value = average((out, self._loss(out, done)) for out in self._looks(x))
        return logits, value

    def _looks(self, x: Tensor) -> Iterator[Tensor]:
        """The logits of ``x``, once, or for as many draws as a stochastic defence is looked at."""
        for _ in range(self.victim.passes):
            self._spend(1)
            yield self.victim(x, self.generators)

    def _loss(self, logits: Tensor, done: float) -> Tensor:
        return self.attack.loss(logits, self._aim(logits), self.targeted, self.victim.activation, done)

    def _score(self, logits: Tensor) -> Tensor:
        overlap = mean_dice(self.victim.predict(logits), self._aim(logits), self.victim.classes(logits))
        return overlap if self.targeted else 1 - overlap

    def _aim(self, logits: Tensor) -> Tensor:
        """The label, or the target, encoded once the first logits say how many classes there are; of the cases that are left."""
        if self.goal is None:
            label = self.victim.encode(self.label, logits)
            if not self.targeted:
                self.aim = label
            elif self.given is not None:
                self.aim = self.victim.encode(self.given, logits, "target")
            else:
                with torch.no_grad():
                    (clean,) = average((out,) for out in self._looks(self.ball.image))
                self.aim = make_target(str(self.attack.target), label, clean, self.victim.activation)
            self.goal = self.aim
        return self.goal


def _finite(gradient: Tensor) -> Tensor:
    if bool(torch.isfinite(gradient.sum())):
        return gradient
    warnings.warn(
        "the gradient holds NaN or infinite values, taken as 0: suspect gradient masking, or a network that overflows", stacklevel=4
    )
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
