"""Would more steps, or more restarts, have found more?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from monai_advdef.attacks import Attack
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.threat import ThreatModel

CHANGE = 0.01  # of mean Dice


class Convergence(Check):
    """Doubling the steps, and doubling the restarts, changes mean Dice by less than 0.01; else the attack was stopped too early.

    Of a suite every member is doubled, and each case counts with the worst that the suite or a doubled member leaves.
    """

    name = "Converged"
    passes = "the attack, or every member of the suite, four times"

    def cost(self, attacks: Sequence[Attack], threat: ThreatModel) -> tuple[int, int]:
        """Two runs of twice the passes each."""
        steps = [2 * 2 * a.count(threat) * a.restarts for a in attacks if _doubles(a, threat)]
        looks = [2 * 2 * a.restarts for a in attacks if _doubles(a, threat)]
        return sum(steps) + sum(looks), sum(steps)

    def __call__(self, subject: Subject) -> Verdict | None:
        """``suspect`` where a doubling gains 0.01 or more; ``None`` for an attack that has no number of steps."""
        attacks = [a for a in (subject.attack, *subject.others) if _doubles(a, subject.threat)]
        if not attacks or not _bites(subject):
            return None
        numbers = {"once": subject.success}
        for name in ("steps", "restarts"):
            twice = [dataclasses.replace(a, **{name: 2 * getattr(a, name)}) for a in attacks]  # type: ignore[type-var]
            found = [subject.run(attack).score for attack in twice]
            worst = torch.stack([subject.successes, *found]).amax(0) if subject.others else found[0]
            numbers[f"twice the {name}"] = float(worst.mean())
        of = " and ".join(f"{a.steps} steps × {a.restarts}" for a in attacks)  # type: ignore[attr-defined]
        told = f"mean success {numbers['once']:.3f} in {of}"
        told += "".join(f", {numbers[name]:.3f} with {name}" + " of each" * (len(attacks) > 1) for name in list(numbers)[1:])
        gained = {name: numbers[name] - numbers["once"] for name in list(numbers)[1:]}
        name = max(gained, key=lambda key: gained[key])
        if gained[name] >= CHANGE:
            return self.suspect(f"not converged: {told}; give it more", **numbers)
        return self.ok(told, **numbers)


def _doubles(attack: Attack, threat: ThreatModel) -> bool:
    return isinstance(getattr(attack, "steps", None), int) and attack.count(threat) >= 2


def _bites(subject: Subject) -> bool:
    return bool((subject.ball.upper > subject.ball.lower).any())
