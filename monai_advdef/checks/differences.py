"""Is the gradient that of the function that is deployed?"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.logits import name_of, precision

STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of the budget: kinks want them small, float32 large
COARSE = 0.5  # of the budget: what an attack moves in a few steps
RANDOM = 3  # directions
AGREE = 0.25  # relative difference of two slopes; 0.5 where the network, or its gradient, has 8 to 11 bits


class Differences(Check):
    """Autograd against finite differences of the deployed map, along the gradient and along random directions.

    In float64 on the float32 logits, at a random point of the ball away from the ends of the value range, at several step lengths of
    which the best counts: a kink (ReLU) spoils a long step and rounding a short one. Behind a defence with a surrogate the slope of
    the deployed map is 0 almost everywhere and not what the surrogate says; there, and for slopes that agree too, the question is
    whether half a budget along the gradient raises the loss, and by more than along random directions: a gradient may be right and
    of no use (shattered).

    Source: Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML 2018, for the kinds of a wrong gradient.
    """

    name = "Finite differences"
    passes = "at most 49 forward, 1 backward"
    each = (49, 1)

    def __call__(self, subject: Subject) -> Verdict | None:
        """``broken``: slopes of another sign or ten times as large; ``suspect``: slopes that differ, or a gradient that leads
        nowhere over the distance of an attack. ``None`` where nothing moves (eps is 0)."""
        probe = _Probe(subject)
        if not bool((probe.scale > 0).any()):
            return None
        with subject.victim.frozen():
            gradient = probe.gradient()
            along = probe.steepest(gradient)
            straying = probe.random()
            risen = probe.rise(along)
            best = max(float(probe.rise(d).median()) for d in straying)
            stated, measured, apart = probe.slopes(gradient, [along, *straying])
        return self._judge(subject, float(risen.median()), best, stated, measured, apart)

    def _judge(self, subject: Subject, risen: float, best: float, stated: float, measured: float, apart: float) -> Verdict:
        name, defense = name_of(subject.victim.network), subject.victim.defense
        numbers = {"autograd": stated, "differences": measured, "apart": apart, "along": risen, "random": best}
        useful = risen > 0 and risen > 2 * best and risen > 0.02 * stated
        moved = f"half a budget along the gradient raises the loss by {risen:.3g}, along random directions by at most {best:.3g}"
        limit = 2 * AGREE if _coarse(subject) else AGREE
        if apart <= limit:
            agree = f"autograd and finite differences agree within {apart:.0%}"
            if useful:
                return self.ok(f"{agree}, and {moved}", **numbers)
            return self.suspect(f"{agree}, but {moved} (autograd says {stated:.3g}): a shattered gradient leads nowhere", **numbers)
        if defense is not None and (subject.victim.surrogate or getattr(defense, "surrogate", None)) and useful:
            return self.ok(f"behind {type(defense).__name__} the surrogate leads uphill: {moved}", **numbers)
        differ = (
            f"half a budget raises the loss by {stated:.3g} says autograd, by {measured:.3g} say differences ({apart:.0%} apart)"
        )
        through = name if defense is None else f"{type(defense).__name__} and {name}"
        if not useful or stated * measured < 0 or not 0.1 <= abs(measured) / max(abs(stated), 1e-12) <= 10:
            return self.broken(f"{differ}, and {moved}: the gradient through {through} is not that of what is deployed", **numbers)
        return self.suspect(f"{differ}, though {moved}: a part of {through} passes no gradient, or another one", **numbers)


class _Probe:
    """The loss around one point, as a function of moves that are measured in budgets."""

    def __init__(self, subject: Subject) -> None:
        self.subject, ball = subject, subject.ball
        low, high = ball.threat.bounds(subject.image)
        usual = (ball.width / 32).expand_as(subject.image)
        eps = usual if subject.threat.norm != "linf" else torch.minimum(ball.eps.expand_as(usual), usual)
        generators = subject.generators()
        noise = torch.stack([torch.rand(subject.image.shape[1:], generator=g) for g in generators]).to(subject.image)
        self.at = torch.minimum(torch.maximum(subject.image + (noise - 0.5) * eps, low), high)
        inside = (self.at - eps / 2 >= low) & (self.at + eps / 2 <= high)
        self.scale = eps * inside * (ball.upper > ball.lower)
        self.generators = generators

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign() * self.scale

    def random(self) -> list[Tensor]:
        def signs() -> Tensor:
            drawn = [torch.randint(0, 2, self.at.shape[1:], generator=g) for g in self.generators]
            return (2 * torch.stack(drawn) - 1).to(self.at) * self.scale

        return [signs() for _ in range(RANDOM)]

    def gradient(self) -> Tensor:
        victim = self.subject.victim
        drawn = self.subject.generators() if victim.stochastic else None
        return victim.gradient(self.at, self.subject.loss, drawn)[2]

    def value(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.subject.loss(self.subject.look(x).double())

    def rise(self, direction: Tensor) -> Tensor:
        """How much half a budget in a direction raises the loss, (B,)."""
        return self.value(self.at + COARSE * direction) - self.value(self.at)

    def slopes(self, gradient: Tensor, directions: list[Tensor]) -> tuple[float, float, float]:
        """The rise that autograd and finite differences say half a budget along the first direction brings, median over the cases,
        and how far apart their slopes are along all directions, relative to the largest, at the best step."""
        stated = torch.stack([(gradient.double() * d.double()).flatten(1).sum(1) for d in directions])
        best, measured = torch.full_like(stated[0], torch.inf), torch.zeros_like(stated[0])
        for step in STEPS:
            found = torch.stack([(self.value(self.at + step * d) - self.value(self.at - step * d)) / (2 * step) for d in directions])
            largest = torch.maximum(found.abs(), stated.abs()).clamp_min(1e-12)
            first = ((found - stated).abs() / largest)[0]
            others = (found - stated)[1:].norm(dim=0) / largest[1:].norm(dim=0)
            apart = torch.maximum(first, others)
            measured = torch.where(apart < best, found[0], measured)
            best = torch.minimum(apart, best)
            if float(best.median()) < AGREE / 5:
                break
        return COARSE * float(stated[0].median()), COARSE * float(measured.median()), float(best.median())


def _coarse(subject: Subject) -> bool:
    halved = precision(subject.victim.network) in (torch.float16, torch.bfloat16)
    return halved or subject.victim.step_precision != "float32"
