"""Does a large enough change bring the score to 0?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks import PGD
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.metrics import counts, dice
from monai_advdef.threat import ThreatModel

LEFT = 0.1  # of Dice
STEPS = 10
ATTACKS = [PGD(steps=STEPS, objective=name, random_start=False) for name in ("dice_ce", "margin")]
"""From the clean image, for one drawn out of the whole range is noise; by the margin too, as it never saturates."""


class Unbounded(Check):
    """With as much as the value range holds, everywhere, no network keeps its score; if one does, its gradient leads nowhere.

    Dice over the classes that a case has: one that it lacks has a Dice of 1 as long as nothing is found of it.

    Source: Carlini et al., "On Evaluating Adversarial Robustness", 2019, section 3.
    """

    name = "Unbounded"
    passes = f"{len(ATTACKS) * (STEPS + 1)} forward, {len(ATTACKS) * STEPS} backward"
    each = (len(ATTACKS) * (STEPS + 1), len(ATTACKS) * STEPS)

    def __call__(self, subject: Subject) -> Verdict:
        """``suspect`` where more than 0.1 of mean Dice is left."""
        untargeted = replace(subject, target=None)
        found = [_dice(untargeted, untargeted.run(attack, threat=widest(subject)).adversarial) for attack in ATTACKS]
        left = float(torch.stack(found).amin(0).mean())
        names = " and ".join(attack.label for attack in ATTACKS)
        told = f"with ε as wide as the value range {names} of {STEPS} steps leave a Dice of {left:.3f}"
        if left > LEFT:
            return self.suspect(f"{told}, where 0 is expected: its gradient leads nowhere", dice=left)
        return self.ok(told, dice=left)


def widest(subject: Subject) -> ThreatModel:
    """The threat model with the whole value range as eps, everywhere, in the largest norm."""
    given: dict[str, Any] = {"norm": "linf", "region": None, "value_range": subject.threat.value_range, "unit": subject.threat.unit}
    if isinstance(subject.threat.value_range, str):
        return ThreatModel(**given, eps=100.0, relative=True)
    pairs = torch.as_tensor(subject.threat.value_range, dtype=torch.float64).reshape(-1, 2)
    widths = (pairs[:, 1] - pairs[:, 0]).tolist()
    return ThreatModel(**given, eps=widths[0] if len(widths) == 1 else widths)


def _dice(subject: Subject, x: Tensor) -> Tensor:
    """(B,) Dice on the deployed victim over the classes that a case has; over all of a case that has none."""
    victim = subject.victim
    with victim.frozen(), torch.no_grad():
        logits = subject.look(x)
    tp, predicted, labelled = counts(victim.predict(logits), victim.encode(subject.label, logits), victim.classes(logits))
    there = (labelled > 0) | (labelled == 0).all(1, keepdim=True)
    return (dice(tp, predicted, labelled) * there).sum(1) / there.sum(1)
