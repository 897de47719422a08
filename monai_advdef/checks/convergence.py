"""Would more steps, or more restarts, have found more?"""

from __future__ import annotations

import dataclasses

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject

CHANGE = 0.01  # of mean Dice


class Convergence(Check):
    """Doubling the steps, and doubling the restarts, changes mean Dice by less than 0.01; else the attack was stopped too early."""

    name = "Converged"
    passes = "the attack four times"

    def __call__(self, subject: Subject) -> Verdict | None:
        """``suspect`` where a doubling gains 0.01 or more; ``None`` for an attack that has no number of steps."""
        attack = subject.attack
        if not isinstance(getattr(attack, "steps", None), int) or attack.count(subject.threat) < 2 or not _bites(subject):
            return None
        once = subject.success
        numbers = {"once": once}
        for name in ("steps", "restarts"):
            twice = dataclasses.replace(attack, **{name: 2 * getattr(attack, name)})
            numbers[f"twice the {name}"] = float(subject.run(twice).score.mean())
        told = f"mean success {once:.3f} in {attack.steps} steps × {attack.restarts}"  # type: ignore[attr-defined]
        told += "".join(f", {numbers[name]:.3f} with {name}" for name in list(numbers)[1:])
        gained = {name: numbers[name] - once for name in list(numbers)[1:]}
        name = max(gained, key=lambda key: gained[key])
        if gained[name] >= CHANGE:
            return self.suspect(f"not converged: {told}; give it more", **numbers)
        return self.ok(told, **numbers)


def _bites(subject: Subject) -> bool:
    return bool((subject.ball.upper > subject.ball.lower).any())
