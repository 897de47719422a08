"""Which runs a suite comes to on a victim: every member, and behind a defence every way through it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from monai_advdef.defenses.quantiser import check_seen_through, look_through, quantisers
from monai_advdef.suite.definition import Behind, Member, Suite
from monai_advdef.threat import ThreatModel
from monai_advdef.types import Images
from monai_advdef.victim import Victim


@dataclass(frozen=True)
class Slot:
    """One run: a member, and the way through the defence that its attacker takes; without one it does not know the defence."""

    member: Member
    way: Behind | None = None

    @property
    def adaptive(self) -> bool:
        """Whether the attacker knows the defence."""
        return self.way is not None

    @property
    def label(self) -> str:
        """The member's, and the way where there are several."""
        return " ".join(filter(None, [self.member.label, self.way.words if self.way else ""]))


@dataclass(frozen=True)
class Plan:
    """The runs of a suite on a victim, in order, and in words what is not run."""

    slots: tuple[Slot, ...]
    notes: tuple[str, ...]


def plan(suite: Suite, victim: Victim, threat: ThreatModel, image: Images, *, adaptive: bool, transfer: bool) -> Plan:
    """What is run on ``victim``: of every member the oblivious attack, then, of those that take steps, the adaptive ones.

    Args:
        suite, victim, threat: who does what to whom.
        image: (B, C, \\*S), to see whether the defence passes a gradient.
        adaptive: whether a defence is attacked by somebody who knows it.
        transfer: whether there is another network to craft images on.

    Raises:
        ValueError: nothing is left to run.
    """
    notes = []
    ways = _ways(suite, victim, image) if adaptive and victim.defense is not None else []
    if adaptive and victim.defense is not None and not ways:
        name = type(victim.defense).__name__
        notes.append(f"adaptive attacks not assessed: {name} passes no gradient; give it a surrogate")
    slots = []
    for member in suite.attacks:
        if member.transfer and not transfer:
            notes.append(f"{member.label} not run: there is no other network to craft images on; give one as source")
            continue
        slots.append(Slot(member))
        if not member.transfer and member.attack.count(threat) > 0:
            slots += [Slot(member, way) for way in ([Behind()] if ways and member.attack.asks_only else ways)]
    if not slots:
        raise ValueError(f"suite {suite.name} runs nothing here: {'; '.join(notes)}")
    return Plan(tuple(slots), tuple(notes))


def seen_through(victim: Victim, way: Behind) -> Victim:
    """The victim whose defence passes the gradient that ``way`` says."""
    twin = copy.copy(victim)
    if way.surrogate is not None or way.smoothness is not None:
        twin.surrogate, twin.smoothness = way.surrogate, way.smoothness
    return twin


def _ways(suite: Suite, victim: Victim, image: Images) -> list[Behind]:
    """The ways that pass a gradient through this defence; of those that come to the same here one."""
    known = [way for given in suite.ways if (way := _known(victim.defense, given)) is not None]
    return [way for way in dict.fromkeys(known) if _passes(seen_through(victim, way), image)]


def _known(defense: Any, way: Behind) -> Behind | None:
    """The way as this defence takes it: one that rounds nothing has its own gradient whatever the surrogate, but for ``"identity"``;
    ``None`` where the defence has another choice of surrogates."""
    if not quantisers(defense) and way.surrogate != "identity":
        return replace(way, surrogate=None, smoothness=None)
    try:
        check_seen_through(defense, way.surrogate, way.smoothness)
    except ValueError:
        return None
    return way


def _passes(victim: Victim, image: Images) -> bool:
    with victim.frozen():
        x = image[:1].detach().clone().requires_grad_()
        draws = [torch.Generator().manual_seed(0)]
        return look_through(victim.defense, x, lambda: victim.defended(x, draws), victim.surrogate, victim.smoothness).requires_grad
