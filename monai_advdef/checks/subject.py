"""Whom, by whom and on which cases is checked."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks import ASMA, PGD, Attack, Noise, Outcome, run
from monai_advdef.attacks.loop import check_batch
from monai_advdef.objectives import objective
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images, Logits, PerCase
from monai_advdef.victim import Victim, average

USUAL: dict[bool, Attack] = {True: PGD(steps=20, step_size=None, objective="dice"), False: ASMA(steps=100, target="elsewhere")}
"""The attack that is looked at where none is told: within a bound, and without."""
SHORT = 10


@dataclass(kw_only=True)
class Subject:
    """Whom, by whom and on which cases is checked; made by :func:`make_subject`.

    Args:
        victim, threat, attack: who does what to whom.
        image: (B, C, \\*S) in image units, the clean ones.
        label: (B, 1, \\*S) or (B, K, \\*S), see :func:`monai_advdef.run`.
        seeds: one per case.
        names: what the cases are called.
        target: what a targeted attack aims at, where it is handed over.
        adversarial: (B, C, \\*S), what the evaluation left of these cases, where it is known; else the attack is run.
        declared: the bundle's own threat model, where it is known.
        source: another network of the same task, from which images are transferred.
        others: where ``adversarial`` are a suite's, its members beside ``attack``, which is the first.
    """

    victim: Victim
    threat: ThreatModel
    image: Tensor
    label: Tensor
    attack: Attack
    seeds: list[int]
    names: list[str]
    target: Tensor | None = None
    adversarial: Tensor | None = None
    declared: ThreatModel | None = None
    source: Victim | None = None
    others: Sequence[Attack] = ()

    @cached_property
    def ball(self) -> Ball:
        """The threat model around the clean images."""
        return self.threat.around(self.image)

    @cached_property
    def logits(self) -> Logits:
        """(B, K, \\*S) of the clean images, in float32; of a stochastic victim the mean over its draws."""
        with self.victim.frozen(), torch.no_grad():
            return self.look(self.image)

    @cached_property
    def aim(self) -> Tensor:
        """The label as the objectives take it."""
        return self.victim.encode(self.label, self.logits)

    @cached_property
    def attacked(self) -> Tensor:
        """(B, C, \\*S) the images that the attack leaves."""
        return self.outcome.adversarial if self.adversarial is None else self.adversarial

    @cached_property
    def outcome(self) -> Outcome:
        """Of the attack, run on these cases."""
        return self.run(self.attack)

    @cached_property
    def successes(self) -> PerCase:
        """Success of the attack in [0, 1] on the deployed victim: 1 - Dice, or Dice to its target."""
        return self.judge(self.attacked)

    @property
    def success(self) -> float:
        """Its mean."""
        return float(self.successes.mean())

    @property
    def targeted(self) -> bool:
        """Whether the attack aims at a mask."""
        return self.target is not None or self.attack.target is not None

    @property
    def short(self) -> Attack:
        """The attack with at most ten steps and one restart: a cheap stand-in that raises the same loss in the same way."""
        steps = getattr(self.attack, "steps", None)
        fewer: dict[str, Any] = {"steps": min(steps, SHORT)} if isinstance(steps, int) else {}
        return dataclasses.replace(self.attack, restarts=1, **fewer)

    def generators(self) -> list[torch.Generator]:
        """A fresh stream of random numbers for each case; the same each time."""
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def look(self, x: Images) -> Logits:
        """Logits of the deployed victim; of a stochastic one the mean over as many draws as an attack takes."""
        generators = self.generators() if self.victim.stochastic else None
        (logits,) = average((self.victim(x, generators),) for _ in range(self.victim.passes))
        return logits

    def loss(self, logits: Logits) -> PerCase:
        """Soft Dice loss plus cross-entropy per case: smooth, and with a gradient where one of the two has none."""
        return objective("dice_ce", self.victim.activation)(logits, self.aim)

    def run(self, attack: Attack, victim: Victim | None = None, threat: ThreatModel | None = None) -> Outcome:
        """An attack on the same cases, with the same seeds and target; of its warnings the checks speak themselves."""
        given = (victim or self.victim, threat or self.threat, self.image, self.label)
        with hushed():
            return run(attack, *given, target=self.target, seed=self.seeds)

    def judge(self, x: Images) -> PerCase:
        """Success of given images (B, C, \\*S) on the deployed victim, as an attack's own score says it."""
        nothing = ThreatModel(eps=0.0, value_range="image", unit=self.threat.unit)
        target = self.target
        if target is None and self.attack.target is not None:  # made from the clean prediction
            target = self.run(Noise(target=self.attack.target), threat=nothing).target
        with hushed():
            return run(Noise(), self.victim, nothing, x, self.label, target=target, seed=self.seeds).score


def make_subject(
    victim: Victim,
    threat: ThreatModel,
    image: Tensor,
    label: Tensor,
    *,
    attack: Attack | None = None,
    seed: int | Sequence[int] = 0,
    names: Sequence[str] | None = None,
    **known: Any,
) -> Subject:
    """A :class:`Subject` on plain tensors; ``known`` are its further fields.

    Raises:
        ValueError: what :func:`monai_advdef.run` says of such a batch; another number of seeds or names than of cases.
    """
    check_batch(image, label, known.get("target"), regridded=victim.prepare is not None)
    cases = len(image)
    seeds = [int(seed)] * cases if isinstance(seed, int) else [int(s) for s in seed]
    called = [str(i) for i in range(cases)] if names is None else [str(n) for n in names]
    for what, given in (("seed", seeds), ("names", called)):
        if len(given) != cases:
            raise ValueError(f"{what} has {len(given)} entries for {cases} cases; give one per case")
    held: dict[str, Any] = {name: _plain(value) if isinstance(value, Tensor) else value for name, value in known.items()}
    settled = USUAL[threat.norm != "unbounded"] if attack is None else attack
    return Subject(
        victim=victim,
        threat=threat,
        image=_plain(image),
        label=_plain(label),
        attack=settled,
        seeds=seeds,
        names=called,
        **held,
    )


@contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings in which an attack says what a check says with its verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _plain(x: Tensor) -> Tensor:
    """A plain float32 copy: no MetaTensor, no inference tensor, nothing to differentiate."""
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    with torch.inference_mode(False):
        return x.detach().float().clone()
