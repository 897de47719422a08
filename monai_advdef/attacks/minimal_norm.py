"""The smallest change for which a case fails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate, per_case
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images, PerCase

FIRST, LAST = 0.5, 1e-3  # share by which a radius shrinks or grows at the first and at the last step
SHARPEST = 20.0  # factor of the logits, in units of their mean margin, at the last step


@dataclass(frozen=True, kw_only=True)
class MinimalNorm(Attack):
    """Projected ascent whose radius follows each case: smaller after an image that fails, larger after one that does not.

    A case has failed when its mean Dice is at or below ``goal`` (targeted: when its Dice to the target is at least ``1 - goal``). Of
    the images that failed the smallest is handed out; of a case that never fails within the threat's eps the one with the lowest
    Dice, and ``Outcome.reached`` is false. The radius is a share of eps, so that budgets per channel keep their proportions; it
    changes by a factor that shrinks from half to a thousandth, and never leaves eps. Steps follow it, from 1 radius down to none.

    The objective is taken of logits that grow sharper: divided by the mean margin of the case, times 1 at first and 20 in the end.
    So nothing is spent on voxels far behind the decision, however large the logits of a network are: in l2, where every voxel costs,
    that ends 5 % above the closed form on a linear victim at half the Dice (20 % at a fifth), and not 70 %.

    Args:
        steps: how many; with 100 the radius is found to about a per cent.
        goal: Dice left at which a case has failed. One that is at or below it without any change has norm 0.

    Raises:
        ValueError: a goal outside [0, 1); ``keep`` other than ``"best"``; when run, a threat without a bound.

    Source: the radius of FMN (Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", NeurIPS
    2021, algorithm 1), here for a case that fails by a metric instead of a class.
    """

    objective: str = "dice"
    steps: int = 100
    goal: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.goal < 1:
            raise ValueError(f"goal must be a Dice in [0, 1), got {self.goal}; 0.5 is usual")
        if self.keep != "best":
            raise ValueError(f"keep must be 'best', got {self.keep!r}: of all images the smallest that fails is looked for")

    @property
    def label(self) -> str:
        """``minimal-norm``, the Dice at which a case has failed, objective and target."""
        return self._named(f"minimal-norm (Dice {self.goal:g})")

    def count(self, threat: ThreatModel) -> int:
        """``steps``.

        Raises:
            ValueError: the threat has no bound to search within.
        """
        if threat.norm == "unbounded":
            raise ValueError("a minimal norm needs one: set norm to 'linf' or 'l2' and eps to the largest change of interest")
        return self.steps

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """The objective of the sharpened logits, (B,)."""
        with torch.no_grad():
            margin = logits.abs() if head == "sigmoid" else logits.topk(2, dim=1).values.diff(dim=1).abs()
            factor = SHARPEST**done / margin.flatten(1).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
        return super().loss(logits * per_case(factor, logits), aim, targeted, head, done)

    def step(self, at: Iterate) -> Images:
        """Along the steepest direction by up to one radius, and back into the ball of the case's radius."""
        ball, share = at.ball, _share(at.ball, at.x)
        change = FIRST * (LAST / FIRST) ** (at.number / max(at.steps - 1, 1))
        before = at.memory.get("radius", torch.ones_like(share))
        smaller, larger = (1 - change) * torch.minimum(before, share), (1 + change) * before
        radius = at.memory["radius"] = torch.where(self._failed(at.score()), smaller, larger).clamp_max(1.0)
        reach = per_case(radius, at.x) * ball.eps
        length = 1 - (at.number + 0.5) / at.steps
        delta = at.x + length * reach * ball.direction(at.gradient) - ball.image
        if ball.threat.norm == "linf":
            return ball.image + torch.clamp(delta, -reach, reach)
        norm = per_case(torch.linalg.vector_norm(delta.flatten(1), dim=1), at.x)
        return ball.image + delta * (reach / norm.clamp_min(1e-30)).clamp_max(1.0)

    def rank(self, at: Iterate, score: PerCase) -> PerCase:
        """The score, in [0, 1], until the case has failed; then 3 less the size of the change as a share of eps, (B,)."""
        return torch.where(self._failed(score), 3 - _share(at.ball, at.x), score)

    def reached(self, rank: PerCase) -> Tensor:
        """(B,) whether the case fails within eps."""
        return rank > 1.5

    def _failed(self, score: PerCase) -> Tensor:
        return score >= 1 - self.goal


def _share(ball: Ball, x: Images) -> PerCase:
    """The size of ``x - image`` in units of eps, (B,): 1 at the border of the ball."""
    delta, eps = (x.double() - ball.image.double()), ball.exact
    if ball.threat.norm == "linf":
        return (delta.abs() / eps.clamp_min(1e-30)).flatten(1).amax(1).float()
    return (torch.linalg.vector_norm(delta.flatten(1), dim=1) / max(float(eps.flatten()[0]), 1e-30)).float()
