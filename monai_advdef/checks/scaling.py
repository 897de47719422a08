"""Does the attack grow stronger on scaled logits?"""

from __future__ import annotations

import copy

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import SHORT, Subject
from monai_advdef.networks.scaled import ScaledLogits
from monai_advdef.victim import Victim

TEMPERATURES = (0.1, 10.0, 100.0, 1000.0)
GAIN = 0.03  # of mean success


class Scaling(Check):
    """The same attack on z/T for several T. Predictions are the same for every T, so a stronger attack on one of them says that the
    loss saturates on the logits as they are: the victim is not robust but far out on a flat part of its softmax.

    Source: Carlini & Wagner, "Defensive Distillation is Not Robust to Adversarial Examples", 2016.
    """

    name = "Scaled logits"
    passes = f"{1 + len(TEMPERATURES)} attacks of at most 10 steps"
    each = ((1 + len(TEMPERATURES)) * (SHORT + 1), (1 + len(TEMPERATURES)) * SHORT)

    def __call__(self, subject: Subject) -> Verdict | None:
        """``suspect`` where the best T gains more than 0.03 of mean success; ``None`` for an attack that takes no step."""
        attack = subject.short
        if attack.count(subject.threat) == 0:
            return None
        plain = float(subject.run(attack).score.mean())
        found = {t: float(subject.run(attack, scaled(subject.victim, 1 / t)).score.mean()) for t in TEMPERATURES}
        best = max(found, key=lambda t: found[t])
        told = f"{attack.label} of {attack.count(subject.threat)} steps has a mean success of {plain:.3f} on the logits"
        numbers = {"as they are": plain, "temperature": best, "scaled": found[best]}
        if found[best] > plain + GAIN:
            return self.suspect(
                f"{told} and of {found[best]:.3f} on the logits divided by {best:g}: its loss saturates; give the attack "
                f"logit_scale {1 / best:g}, or an objective of the logits (margin)",
                **numbers,
            )
        return self.ok(
            f"{told}, and at most {found[best]:.3f} on the logits divided by {', '.join(f'{t:g}' for t in found)}", **numbers
        )


def scaled(victim: Victim, factor: float) -> Victim:
    """The same victim with its logits times ``factor``."""
    twin = copy.copy(victim)
    twin.network = ScaledLogits(victim.network, factor=factor).to(next(iter(_devices(victim)), "cpu"))
    twin._stepper = twin.network
    return twin


def _devices(victim: Victim) -> list:
    parameters = getattr(victim.network, "parameters", None)
    return [p.device for p in parameters()] if parameters else []
