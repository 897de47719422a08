"""What a check is, and what it says: can the number that an attack left be trusted?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from monai_advdef.attacks import Attack
from monai_advdef.checks.subject import Subject
from monai_advdef.records.verdicts import VERDICTS
from monai_advdef.threat import ThreatModel


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Args:
        name: of the check.
        verdict: ``"ok"``, ``"suspect"`` (the number may be too good) or ``"broken"`` (it means nothing).
        evidence: one sentence with the numbers it rests on.
        numbers: the same numbers by name.

    Raises:
        ValueError: another word as ``verdict``.
    """

    name: str
    verdict: str
    evidence: str
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}")

    def plain(self) -> dict[str, Any]:
        """As JSON has it; numbers that are not finite are left out."""
        finite = {name: round(float(value), 6) for name, value in self.numbers.items() if math.isfinite(value)}
        return {"name": self.name, "verdict": self.verdict, "evidence": self.evidence, "numbers": finite}


class Check:
    """One question about an evaluation.

    A check is called with a :class:`Subject` and answers with a :class:`Verdict`, or with ``None`` where the question does not arise
    or cannot be answered: nothing is called ok on trust.

    Attributes:
        name: how it is called on cards and in ``checks.json``.
        passes: what it costs each case, in words.
        each: that in forward and backward passes, where it does not depend on the attack.
        needs_gradient: whether it is pointless on a victim from which no gradient comes.
    """

    name: str = ""
    passes: str = ""
    each: tuple[int, int] = (0, 0)
    needs_gradient: bool = True

    def __call__(self, subject: Subject) -> Verdict | None:
        """The verdict on a subject."""
        raise TypeError(f"{type(self).__name__} checks nothing")

    def cost(self, attacks: Sequence[Attack], threat: ThreatModel) -> tuple[int, int]:
        """Forward and backward passes that it takes of each case at most, for an attack or the members of a suite."""
        return self.each

    def ok(self, evidence: str, **numbers: float) -> Verdict:
        """Nothing found."""
        return Verdict(self.name, "ok", evidence, numbers)

    def suspect(self, evidence: str, **numbers: float) -> Verdict:
        """The number may be too good."""
        return Verdict(self.name, "suspect", evidence, numbers)

    def broken(self, evidence: str, **numbers: float) -> Verdict:
        """The number means nothing."""
        return Verdict(self.name, "broken", evidence, numbers)
