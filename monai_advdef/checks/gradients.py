"""Is there a gradient at all?"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.checks.tracing import lost_at
from monai_advdef.logits import name_of
from monai_advdef.objectives import objective
from monai_advdef.types import Logits, PerCase

MOST = 0.9  # of the entries exactly 0: more is not the air around a patient alone


class Gradients(Check):
    """A gradient that is absent, NaN or 0 leaves the image as it was, and the victim looks robust without end.

    The loss of the attack is differentiated at the clean image and near it. Absent: a ``detach``, an ``argmax``, a trip through
    numpy or a forward under ``no_grad`` or ``inference_mode`` inside the network or the defence, whose module is named.

    Source: Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML 2018.
    """

    name = "Gradients"
    passes = "3 forward, 3 backward"
    each = (3, 3)
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict:
        """``broken``: absent, NaN, or 0 for a whole case; ``suspect``: more than nine of ten entries exactly 0."""
        victim, named = subject.victim, name_of(subject.victim.network)
        try:
            with victim.frozen():
                found = torch.stack([_gradient(subject, x) for x in _places(subject)])
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            words = str(error).strip().splitlines()[0]
            return self.broken(f"no gradient comes back from the loss to the image, it ends at {lost_at(subject) or named}: {words}")
        infinite = ~torch.isfinite(found)
        if bool(infinite.any()):
            share = float(infinite.float().mean())
            at = lost_at(subject) or "the loss"
            return self.broken(
                f"{share:.1%} of the gradient is NaN or infinite, from {at} on; an attack takes these entries as 0", nan=share
            )
        free = _free(subject).flatten(1)
        zero = ((found == 0).flatten(2).float() * free).sum(2) / free.sum(1).clamp_min(1)
        dead = [name for name, share in zip(subject.names, zero.amin(0).tolist()) if share == 1]
        share = float(zero.mean())
        if dead:
            zeroed, loss = lost_at(subject), subject.attack.objective
            why = (
                f"it becomes 0 at {zeroed}"
                if zeroed
                else f"the loss ({loss}) saturates on its logits: raise another one, or scale them"
            )
            return self.broken(f"the gradient is exactly 0 on the whole image of {_cases(dead)}: {why}", zero=share, cases=len(dead))
        if share > MOST:
            return self.suspect(f"{share:.1%} of the gradient's entries are exactly 0, more than air explains", zero=share)
        return self.ok(f"a finite gradient for every case, {share:.1%} of it exactly 0", zero=share)


def _places(subject: Subject) -> list[Tensor]:
    """The clean images, and a random point near them."""
    eps = torch.where(subject.ball.eps.isfinite(), subject.ball.eps, subject.ball.width / 32)
    near = torch.stack([torch.rand(subject.image.shape[1:], generator=g) for g in subject.generators()]).to(subject.image)
    step = (2 * near - 1) * torch.minimum(eps, subject.ball.width / 32)
    return [subject.image, torch.clamp(subject.image + step, subject.ball.lower, subject.ball.upper)]


def _gradient(subject: Subject, x: Tensor) -> Tensor:
    victim = subject.victim

    def loss(logits: Logits) -> PerCase:
        return objective(subject.attack.objective, victim.activation)(logits, victim.encode(subject.label, logits))

    return victim.gradient(x, loss, subject.generators() if victim.stochastic else None)[2]


def _free(subject: Subject) -> Tensor:
    """Where the attacker may change the image, (B, C, \\*S) of zeros and ones."""
    return (subject.ball.upper > subject.ball.lower).expand_as(subject.image).float()


def _cases(names: list[str]) -> str:
    return f"case {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
