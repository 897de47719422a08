"""Are the victim's outputs logits, of as many classes as its head needs?"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.logits import name_of
from monai_advdef.victim import Victim

SLACK = 2e-3  # of a sum of probabilities: what float16 leaves of 1


class Outputs(Check):
    """Probabilities where logits are expected flatten the loss (softmax is taken twice), and behind a sigmoid head every voxel is
    found; log-probabilities are fine, for their softmax is the same as that of the logits.

    Source: AutoAttack's check of the model's output (Croce & Hein, 2020, ``checks.py``).
    """

    name = "Outputs"
    passes = "1 forward"
    each = (1, 0)
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict:
        """``broken``: a softmax head of one class, one answer for all, probabilities for a sigmoid head; ``suspect``: probabilities
        for a softmax head."""
        return self.of(subject.logits, subject.victim)

    def of(self, z: Tensor, victim: Victim) -> Verdict:
        """The verdict on logits (B, K, \\*S) that a victim gave of clean images."""
        softmax, name = victim.activation == "softmax", name_of(victim.network)
        numbers = {"least": float(z.min()), "most": float(z.max()), "classes": z.shape[1]}
        span = f"[{numbers['least']:.3g}, {numbers['most']:.3g}]"
        if softmax and z.shape[1] == 1:
            return self.broken(
                f"{name} has one output channel, on which softmax is 1 everywhere and no gradient comes back; set activation to "
                "'sigmoid'",
                **numbers,
            )
        if numbers["least"] == numbers["most"]:
            return self.broken(f"{name} answers {numbers['most']:.3g} for every voxel of every class and case", **numbers)
        unit = numbers["least"] >= 0 and numbers["most"] <= 1 + SLACK
        if unit and not softmax:
            return self.broken(
                f"all outputs of {name} lie in {span}: probabilities, of which a sigmoid head finds every voxel above 0; return the "
                "values before the sigmoid",
                **numbers,
            )
        if unit and _sum_to_one(z):
            twice = " (so narrow that softmax may already be taken twice)" if numbers["most"] - numbers["least"] < 0.75 else ""
            return self.suspect(
                f"the outputs of {name} lie in {span} and sum to 1: probabilities{twice}, whose softmax flattens the loss; return "
                "the values before the softmax",
                **numbers,
            )
        if unit:
            return self.suspect(
                f"all outputs of {name} lie in {span}, as probabilities of single classes do; return the values before the sigmoid",
                **numbers,
            )
        if softmax and numbers["most"] <= SLACK and _sum_to_one(z.exp()):
            return self.ok(f"log-probabilities in {span}, as good as logits: their softmax is the same", **numbers)
        return self.ok(f"logits in {span} for {z.shape[1]} class{'es' * (z.shape[1] > 1)}", **numbers)


def _sum_to_one(p: Tensor) -> bool:
    total = p.sum(1)
    return p.shape[1] > 1 and bool(torch.isclose(total, torch.ones_like(total), rtol=0, atol=SLACK * p.shape[1]).all())
