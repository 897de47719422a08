"""A suite against one batch: every member in turn, and of each case the image that hurts most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from monai_advdef.attacks import Outcome, run
from monai_advdef.attacks.looks import look_twice
from monai_advdef.attacks.loop import check_batch
from monai_advdef.suite.definition import Suite
from monai_advdef.suite.judge import Judge, Judged
from monai_advdef.suite.plan import Plan, Slot, plan, seen_through
from monai_advdef.threat import ThreatModel, measure
from monai_advdef.types import Given, Images, PerCase
from monai_advdef.victim import Victim


class _Counted:
    """What ``passes``, (B, 2), comes to."""

    passes: Tensor

    @property
    def forwards(self) -> int:
        """Forward passes, the most that any case took."""
        return int(self.passes[:, 0].max())

    @property
    def backwards(self) -> int:
        """Backward passes, the most that any case took."""
        return int(self.passes[:, 1].max())


@dataclass
class MemberOutcome(_Counted):
    """What one run of a suite did. A case that an earlier run had brought to Dice 0 is not attacked again: NaN, and no passes.

    Attributes:
        score: (B,) 1 - Dice on the victim as it is deployed, mean over the foreground classes.
        success: (B,) by the attack's own aim: of a targeted one the Dice to its target, else ``score``.
        judged: overlaps of each class.
        size, linf, l2: (B,) of the change, ``size`` in the threat's norm.
        passes: (B, 2) forward and backward passes of each case, its judgement among them.
        zero_gradient: (B,) see :class:`monai_advdef.Outcome`.
        seconds: (B,) each case's share of the time.
        steps, restarts: of the attack under this threat.
    """

    score: Tensor
    success: Tensor
    judged: Judged
    size: Tensor
    linf: Tensor
    l2: Tensor
    passes: Tensor
    zero_gradient: Tensor
    seconds: Tensor
    steps: int
    restarts: int


class Ran(NamedTuple):
    """One run of a suite: what it is called, whether its attacker knows the defence, and what it did."""

    label: str
    adaptive: bool
    outcome: MemberOutcome


@dataclass
class SuiteOutcome(_Counted):
    """What :func:`attack_with` returns.

    Attributes:
        adversarial: (B, C, \\*S), of each case the image with the lowest Dice; the clean one where no attack lowered it.
        score: (B,) 1 - Dice of these images, mean over the foreground classes; of a stochastic victim on draws that nobody has seen.
        which: (B,) the index in ``members`` of the run that made the image; -1: the clean image.
        members: every run, in order.
        clean: what the clean images come to.
        passes: (B, 2) forward and backward passes of each case.
        assessed: whether a defence was attacked by somebody who knows it; without a defence true.
        notes: in words, what was not run.
    """

    adversarial: Images
    score: PerCase
    which: Tensor
    members: list[Ran]
    clean: Judged
    passes: Tensor
    assessed: bool
    notes: tuple[str, ...]

    def counts(self) -> Tensor:
        """(M + 1, B, K, 3): true positives, predicted and labelled voxels on the clean images and under every run, for
        :func:`monai_advdef.suite.worst_set`; NaN where a case was not attacked."""
        return torch.stack([self.clean.counts, *(m.outcome.judged.counts for m in self.members)])


def attack_with(
    suite: Suite,
    victim: Victim,
    threat: ThreatModel,
    image: Given,
    label: Given,
    *,
    seed: int | Sequence[int] = 0,
    adaptive: bool = True,
    source: Victim | None = None,
) -> SuiteOutcome:
    """Attack a batch with every member of a suite and keep, case by case, the image with the lowest Dice (mean over the classes).

    Every image is judged on ``victim`` as it is deployed, by Dice, whatever its attack aimed at. Behind a defence each member
    attacks the network alone (obliviously) and, where ``adaptive``, through the defence in every way of ``suite.behind``. A case at
    Dice 0 leaves the batch of the later members, unless the victim draws at random. Each member has the case's own seed, so a
    member's images are those of :func:`monai_advdef.run` by itself.

    Args:
        suite: see :func:`monai_advdef.suite.load_suite`.
        victim, threat, image, label, seed: see :func:`monai_advdef.run`.
        adaptive: whether a defence is attacked by somebody who knows it.
        source: another network, for members that craft their images there (``transfer``); without it they are left out.

    Raises:
        ValueError: as :func:`monai_advdef.run`; a suite of which nothing can be run.
    """
    check_batch(image, label, regridded=victim.prepare is not None)
    seeds = [int(seed)] * len(image) if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != len(image):
        raise ValueError(f"seed has {len(seeds)} numbers for {len(image)} cases; give one, or one per case")
    image, label = (x.as_tensor() if hasattr(x, "as_tensor") else x for x in (image, label))
    image, label = image.detach().float().clone(), label.detach().clone()
    planned = plan(suite, victim, threat, image, adaptive=adaptive, transfer=source is not None)
    return _Course(victim, threat, image, label, seeds, source, planned).outcome()


class _Course:
    """One call of :func:`attack_with`: what has been reached so far."""

    def __init__(
        self,
        victim: Victim,
        threat: ThreatModel,
        image: Tensor,
        label: Tensor,
        seeds: list[int],
        source: Victim | None,
        planned: Plan,
    ) -> None:
        self.victim, self.threat, self.image, self.label, self.seeds = victim, threat, image, label, seeds
        self.source, self.planned = source, planned
        with victim.frozen():
            victim.require_range(image)
            seen = look_twice(victim, image)
        self.bare = victim if victim.defense is None else victim.without_defense()
        self.judge = Judge(victim, label, seeds)
        self.clean = self.judge(image, range(len(image)), -1, seen=seen)
        self.adversarial, self.dice = image.clone(), self.clean.value.clone()
        self.which = torch.full((len(image),), -1, device=image.device)
        self.oblivious = image.clone()  # images of the member's attack on the network without its defence
        self.passes = torch.zeros(len(image), 2, dtype=torch.long)
        self.passes[:, 0] += victim.passes

    def outcome(self) -> SuiteOutcome:
        """Run everything that is planned."""
        members = [self._run(number, slot) for number, slot in enumerate(self.planned.slots)]
        if self.victim.stochastic:  # the lowest of several noisy measurements flatters the attack
            self.dice = self.judge(self.adversarial, range(len(self.image)), len(members)).value
            self.passes[:, 0] += self.victim.passes
        adaptive = self.victim.defense is None or any(slot.adaptive for slot in self.planned.slots)
        found = (self.adversarial, 1 - self.dice, self.which, members, self.clean, self.passes)
        return SuiteOutcome(*found, adaptive, self.planned.notes)

    def _run(self, number: int, slot: Slot) -> Ran:
        """One run on the cases that have something to lose."""
        begun = time.perf_counter()
        left = self.dice > 0 if not self.victim.stochastic else torch.ones_like(self.dice, dtype=torch.bool)
        at = left.nonzero().flatten().tolist()
        if not at:
            return Ran(slot.label, slot.adaptive, self._of(slot, [], None, None, 0.0))
        made = self._attack(slot, at)
        if not slot.adaptive:
            self.oblivious[at] = made.adversarial
        judged = self.judge(made.adversarial, at, number, target=made.target)
        self._keep(number, at, made.adversarial, judged.value)
        return Ran(slot.label, slot.adaptive, self._of(slot, at, made, judged, time.perf_counter() - begun))

    def _attack(self, slot: Slot, at: list[int]) -> Outcome:
        """The images of one run."""
        start = None
        victim = self.source if slot.member.transfer else self.bare
        if slot.way is not None:
            victim = seen_through(self.victim, slot.way)
            start = self.oblivious[at] if slot.way.begin == "oblivious" else None
        assert victim is not None
        seeds = [self.seeds[i] for i in at]
        return run(slot.member.attack, victim, self.threat, self.image[at], self.label[at], seed=seeds, start=start)

    def _keep(self, number: int, at: list[int], images: Tensor, value: PerCase) -> None:
        """Of each case what is lower than all before."""
        better = value < self.dice[at]
        chosen = [i for i, yes in zip(at, better.tolist()) if yes]
        self.adversarial[chosen] = images[better]
        self.dice[chosen] = value[better]
        self.which[chosen] = number

    def _of(self, slot: Slot, at: list[int], made: Outcome | None, judged: Judged | None, seconds: float) -> MemberOutcome:
        cases, attack = len(self.image), slot.member.attack
        passes, spent = torch.zeros(cases, 2, dtype=torch.long), torch.zeros(cases)
        size, linf, l2, zero = (self.dice.new_full((cases,), torch.nan, dtype=torch.float64) for _ in range(4))
        whole = Judged(*(torch.full_like(part, torch.nan) for part in self.clean.parts()))
        if made is not None and judged is not None:
            whole = judged.spread(at, cases)
            passes[at] = made.passes.cpu().long()
            passes[at, 0] += self.victim.passes
            self.passes += passes
            sizes = measure(made.adversarial, self.image[at])
            size[at], linf[at], l2[at], zero[at] = made.size.double(), sizes["linf"], sizes["l2"], made.zero_gradient.double()
            spent[at] = seconds / len(at)
        score = 1 - whole.value
        success = score if attack.target is None else whole.target_dice.mean(1)
        steps = attack.count(self.threat)
        return MemberOutcome(score, success, whole, size, linf, l2, passes, zero, spent, steps, attack.restarts)
