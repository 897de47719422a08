"""Square attack: random search with boxes, for those who can ask a network but not look into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate, judged, per_case
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images
from monai_advdef.victim import Victim

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # after how many of 10000 queries the boxes' share is halved
ENERGY = 0.3  # of the squared l2 budget, for the box that is tried
JUDGES = ("loss", "score")


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search: a box of the image (a square, in volumes a cube) is changed by eps, up or down in each channel, and kept if
    that is worse for the network. Every case has a search of its own; no gradient is taken.

    In l2 the box takes ``ENERGY`` of the squared budget and the rest of the change shrinks to make room (ours: the published l2
    variant moves energy between two squares of a bell-shaped pattern).

    Args:
        queries: forward passes for each case and restart, exactly (behind a stochastic defence that many looks of ``draws`` passes;
            a case that is lost altogether takes no more).
        share: of the image that a box covers at first; halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the queries.
        judge: what decides, the ``"loss"`` of the objective, or the ``"score"``, for which the predicted mask is enough; of two
            equal scores the newer image is kept.

    Raises:
        ValueError: ``queries`` below 1, a ``share`` outside (0, 1], another ``judge``; when run, a threat without a bound.

    Source: Andriushchenko et al., "Square Attack: a Query-Efficient Black-Box Adversarial Attack via Random Search", ECCV 2020,
    algorithms 1 and 2.
    """

    objective: str = "dice"
    queries: int = 1000
    share: float = 0.8
    judge: str = "loss"

    asks_only = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.queries, int) or isinstance(self.queries, bool) or self.queries < 1:
            raise ValueError(f"queries must be a whole number ≥ 1, got {self.queries!r}; 1000 is usual, 0 asks nothing")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}; 0.8 of the image is usual for the first box")
        if self.judge not in JUDGES:
            raise ValueError(f"judge must be one of {', '.join(JUDGES)}, got {self.judge!r}")

    @property
    def label(self) -> str:
        """``Square``, the number of queries, what decides, and a target."""
        return self._named(f"Square ({self.queries} queries)" + (" by score" if self.judge == "score" else ""))

    def count(self, threat: ThreatModel) -> int:
        """One less than ``queries``: the last image is looked at, too.

        Raises:
            ValueError: the threat has no bound.
        """
        if threat.norm == "unbounded":
            raise ValueError("Square changes boxes by eps; set norm to 'linf' or 'l2' and eps to the largest change allowed")
        return self.queries - 1

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """Stripes along the last axis, up or down by eps at random (in l2 of equal size)."""
        shape = ball.image.shape
        stripes = torch.stack([_signs((shape[1], *[1] * (len(shape) - 3), shape[-1]), g) for g in generators])
        change = stripes.to(ball.image).expand(shape)
        return ball.image + ball.eps * (change if ball.threat.norm == "linf" else ball.direction(change))

    def gradient(
        self, victim: Victim, x: Images, loss: Callable[[Tensor], Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, None]:
        """Logits and losses; no gradient."""
        return judged(victim, x, loss, generators)

    def step(self, at: Iterate) -> Images:
        """Keep the image that was looked at where it is the worse one for the network, and change one box of what is kept."""
        value = at.value if self.judge == "loss" else at.score()
        kept, best = at.memory.get("x", at.x), at.memory.get("value", torch.full_like(value, -torch.inf))
        better = value > best if self.judge == "loss" else value >= best
        at.memory["value"] = torch.where(better, value, best)
        at.memory["x"] = torch.where(per_case(better, at.x), at.x, kept)
        changed = at.memory["x"] - at.ball.image
        boxes = [_box(at.x.shape[2:], self._covered(at.number), g) for g in at.generators]
        signs = [_signs((at.x.shape[1], *[1] * (at.x.ndim - 2)), g).to(at.x) for g in at.generators]
        bounded, eps = at.ball.threat.norm == "linf", at.ball.eps.expand(len(at.x), -1, *[1] * (at.x.ndim - 2))
        for delta, box, sign, most in zip(changed, boxes, signs, eps):
            _repaint(delta[box], most * sign) if bounded else _respend(delta, box, sign, float(most.flatten()[0]))
        return at.ball.image + changed

    def _covered(self, number: int) -> float:
        spent = 10000 * (number + 1) / self.queries
        return self.share / 2 ** sum(spent > when for when in HALVINGS)


def _repaint(inside: Tensor, to: Tensor) -> None:
    r"""Change a box (C, \*S) to ``to`` (C, 1, ...), or to the other side where it is that already."""
    inside.copy_(-to if bool((inside == to).all()) else to)


def _respend(delta: Tensor, box: tuple[slice, ...], sign: Tensor, eps: float) -> None:
    r"""Give the box its share of the energy of ``delta`` (C, \*S), and the rest to what there is outside."""
    inside = delta[box]
    inside.zero_()
    rest = torch.linalg.vector_norm(delta)
    spent = eps**2 * (ENERGY if float(rest) > 0 else 1.0)
    delta.mul_((eps**2 - spent) ** 0.5 / rest.clamp_min(1e-30))
    inside.copy_((sign * (spent / inside.numel()) ** 0.5).expand_as(inside))


def _box(size: Sequence[int], share: float, generator: torch.Generator) -> tuple[slice, ...]:
    """A cube that covers about ``share`` of the image (at most its whole length along an axis), at a random place."""
    side = max(1.0, (share * float(torch.tensor(size).prod())) ** (1 / len(size)))
    sides = [min(n, round(side)) for n in size]
    places = [int(torch.randint(n - s + 1, (), generator=generator)) for n, s in zip(size, sides)]
    return (slice(None), *(slice(p, p + s) for p, s in zip(places, sides)))


def _signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator).mul_(2).sub_(1).float()
