"""Is the attacker who knows the weights the strongest?"""

from __future__ import annotations

from typing import Any

from monai_advdef import attacks
from monai_advdef.attacks import Noise
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject

MARGIN = 0.01  # of mean success
QUERIES = 100  # each one forward pass


class BlackBox(Check):
    """Attacks without gradients (noise, and Square with a stated number of queries) and transferred images, from the victim without
    its defence and from another network where one is known, on the deployed victim. If one of them beats the attack, its gradients
    are hidden.

    Source: Athalye et al. 2018, section 3.1; Andriushchenko et al., "Square Attack", ECCV 2020.
    """

    name = "White box"
    passes = f"noise: 4 forward; Square: {QUERIES} forward; each transfer: an attack of at most 10 steps"
    each = (5 + QUERIES, 0)
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict | None:
        """``suspect`` where one beats the attack by more than 0.01 of mean success; ``None`` for noise, or without a bound."""
        if subject.attack.count(subject.threat) == 0 or subject.threat.norm == "unbounded":
            return None
        found = {name: float(subject.judge(images).mean()) for name, images in _images(subject).items()}
        best = max(found, key=lambda name: found[name])
        told = f"{subject.attack.label} has a mean success of {subject.success:.3f}"
        others = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        numbers = {"white box": subject.success, **found}
        if found[best] > subject.success + MARGIN:
            return self.suspect(f"{told}, less than {best} ({others}): gradients are hidden, or the attack is too weak", **numbers)
        return self.ok(f"{told}; {others}", **numbers)


def _images(subject: Subject) -> dict[str, Any]:
    made = {f"{kind} noise": subject.run(Noise(kind=kind)).adversarial for kind in ("uniform", "sign")}
    square: Any = getattr(attacks, "Square", None)
    if square is not None:
        made[f"Square ({QUERIES} queries)"] = subject.run(square(queries=QUERIES)).adversarial
    if subject.victim.defense is not None:
        made["transfer from the undefended network"] = subject.run(subject.short, subject.victim.without_defense()).adversarial
    if subject.source is not None:
        made["transfer from another network"] = subject.run(subject.short, subject.source).adversarial
    return made
