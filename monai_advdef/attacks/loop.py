"""The one loop of the house: an attack says where to start and how to step; everything else happens here, once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate, Outcome
from monai_advdef.attacks.looks import look_twice
from monai_advdef.attacks.targets import make_target
from monai_advdef.metrics import mean_dice
from monai_advdef.threat import ThreatModel
from monai_advdef.types import Given
from monai_advdef.victim import Victim, average


def run(
    attack: Attack,
    victim: Victim,
    threat: ThreatModel,
    image: Given,
    label: Given,
    *,
    target: Given = None,
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
    (outcome,) = run_sweep(attack, victim, [threat], image, label, target=target, seed=seed)
    return outcome


def run_sweep(
    attack: Attack,
    victim: Victim,
    threats: Sequence[ThreatModel],
    image: Given,
    label: Given,
    *,
    target: Given = None,
    seed: int | Sequence[int] = 0,
) -> list[Outcome]:
    """Attack a batch under several threat models: bit for bit what :func:`run` returns for each, often for fewer gradients.

    Descents go together, at the price of one, until a ball parts them. Steps that do not depend on eps, such as i-FGSM's grey level
    (rule ``"grey_level"``), make the descents of all eps one until eps is reached. ``forwards`` and ``backwards`` of an outcome
    count what it would have cost alone; ``shared`` says how much of it another outcome has paid for.

    Args and errors: see :func:`run`. Behind a stochastic defence nothing is shared.
    """
    check_batch(image, label, target)
    seeds = [int(seed)] * len(image) if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != len(image):
        raise ValueError(f"seed has {len(seeds)} numbers for {len(image)} cases; give one, or one per case")
    with victim.frozen():
        image, label, given = _plain(image), _plain(label), None if target is None else _plain(target)
        runs = [_Run(attack, victim, threat, image, label, given, seeds) for threat in threats]
        victim.require_range(image)
        look_twice(victim, image)
        for _ in range(attack.restarts):
            _descend(runs, together=type(attack).gradient is Attack.gradient and not victim.stochastic)
        return [one.outcome(seed if isinstance(seed, int) else list(seed)) for one in runs]


def _descend(runs: Sequence[_Run], *, together: bool) -> None:
    """One descent of every run; those that have come the same way so far share the next gradient."""
    for one in runs:
        one.start()
    paths, number = [list(runs)] if together else [[one] for one in runs], 0
    while paths := [part for path in paths for part in _parted([one for one in path if number < one.steps])]:
        for path in paths:
            found = path[0].look()
            for one in path:
                one.advance(*found, number, shared=one is not path[0])
        number += 1
    for one in runs:
        one.finish()


def _parted(path: Sequence[_Run]) -> list[list[_Run]]:
    """The runs of one path, those still at the same image together."""
    parts: list[list[_Run]] = []
    for one in path:
        here = next((part for part in parts if torch.equal(part[0].x, one.x)), None)
        if here is None:
            parts.append([one])
        else:
            here.append(one)
    return parts


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


class _Run:
    """An attack under one threat model: where it stands, what it has cost, and the best iterates so far."""

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
        self.attack, self.victim, self.ball, self.steps = attack, victim, threat.around(image), attack.count(threat)
        self.forwards = self.backwards = self.shared = 0
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]
        self.label, self.given = label, target
        self.targeted = target is not None or attack.target is not None
        self.aim: Tensor | None = None
        nothing = torch.full((len(image),), -torch.inf, device=image.device)
        self.best = _Best(image.clone(), nothing, nothing.clone(), torch.zeros_like(nothing))
        self.x, self.memory, self.zeros = image, {}, torch.zeros_like(nothing)  # type: Tensor, dict[str, Tensor], Tensor

    def start(self) -> None:
        self.x, self.memory = self.ball.project(self.attack.init(self.ball, self.generators)), {}

    def look(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, losses and gradient where the run stands."""
        return self.attack.gradient(self.victim, self.x, self._loss, self.generators)

    def advance(self, logits: Tensor, value: Tensor, gradient: Tensor, number: int, *, shared: bool) -> None:
        passes = self.victim.passes
        self.forwards, self.backwards, self.shared = self.forwards + passes, self.backwards + passes, self.shared + passes * shared
        self.zeros += (gradient == 0).flatten(1).float().mean(1)
        at = Iterate(self.x, _finite(gradient), logits, self._aim(logits), number, self.ball, self.victim, self.memory)
        if self.attack.keep == "best":
            self._consider(at, value)
        self.x = self.ball.project(self.attack.step(at))

    def finish(self) -> None:
        attack, x = self.attack, self.x
        logits, value = self._judge(x)
        at = Iterate(x, x, logits, self._aim(logits), self.steps, self.ball, self.victim)
        self._consider(at, value, force=attack.keep == "last" and attack.restarts == 1)

    def outcome(self, seed: Any) -> Outcome:
        best = self.best
        approximate = self.victim.step_precision != "float32" or self.victim.stochastic
        if self.victim.random:  # deployed, it answers by one draw
            with torch.no_grad():
                (best.score,) = average((self._score(logits),) for logits in self._looks(best.x))
        elif approximate and self.attack.keep == "best":
            best.score = self._score(self._judge(best.x)[0])
        return Outcome(
            best.x,
            best.score,
            self.ball.size(best.x),
            torch.stack(best.trace),
            self.forwards,
            self.backwards,
            seed,
            self.zeros / (self.steps * self.attack.restarts) if self.steps else torch.full_like(self.zeros, torch.nan),
            self.shared,
            self.aim if self.targeted else None,
        )

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


def check_batch(image: Any, label: Any, target: Any = None) -> None:
    """Nothing, where image, label and target are tensors of one batch.

    Raises:
        ValueError: naming what is no tensor, has no batch dimension, is empty, or has another size than the image.
    """
    for name, x in (("image", image), ("label", label), ("target", target)):
        if x is None and name == "target":
            continue
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} must be a torch tensor (B, C, *S), got {type(x).__name__}; torch.as_tensor(...) makes one")
        if x.ndim not in (4, 5) or x.numel() == 0:
            raise ValueError(
                f"{name} must be a batch (B, C, H, W) or (B, C, D, H, W) with at least one voxel, got shape {tuple(x.shape)}; add "
                "the missing dimension, of one case x[None], of one channel x[:, None]"
            )
        if x.is_complex():
            raise ValueError(f"{name} must hold real numbers, got {x.dtype}; take the magnitude: x.abs()")
        if len(x) != len(image) or x.shape[2:] != image.shape[2:]:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, the image {tuple(image.shape)}; cases and sizes must agree")


def _plain(x: Tensor) -> Tensor:
    """A detached plain float32 tensor (no MetaTensor: gradients would carry its metadata along)."""
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    return x.detach().float() if not torch.is_inference(x) else x.detach().float().clone()
