"""Moving the coefficients of a quantising defence across their rounding boundaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.attacks.gradient import running
from monai_advdef.dct import crop_to
from monai_advdef.threat import Ball
from monai_advdef.types import Images
from monai_advdef.victim import Victim

BLOCK = 8
FINE = 3.0  # coefficients with a step below this many budgets follow the gradient as if they were not rounded
RELAXATION = 1.5  # of the corrections, as usual for projections onto convex sets


@dataclass(frozen=True, kw_only=True)
class Lattice(Attack):
    """Cross the rounding boundaries that are worth their cost, in every block of a defence that quantises coefficients.

    A defence that rounds ``levels = C / Q`` turns a change of the distance to the boundary into a change of a whole step Q. With g
    the gradient of the loss with respect to a coefficient *behind* the defence, averaged over the steps, and d the distance to the
    next boundary in the direction of g, crossing gains ``|g| Q`` and takes ``d^2`` of the energy of the block's budget. Where energy
    is spent along the gradient instead, as PGD does, a unit of it gains ``lambda = rms(g) / (2 eps)`` (Lagrange multiplier of the
    linear problem). A coefficient is crossed, by as many levels as pay, if ``|g| Q >= price lambda d^2``. Each step goes along the
    gradient of the coefficients that are fine (so strong or so finely quantised that the gradient alone moves them by half a step),
    or wanted and not yet across; then those that are wanted are moved to their boundary by alternating projections onto the
    boundaries and the ball, so that what has been crossed stays crossed.

    The victim's defence offers ``levels(image)`` and its inverse ``image_of(levels, size)``; its surrogate gradient is not used.

    Args:
        steps: number of steps.
        step_size: length of a step in image units; ``None`` means eps / 2.
        momentum: weight of the past in the running sum of the gradients, each scaled to a mean size of 1.
        price: what a crossing must gain, in multiples of what its energy gains elsewhere; above 1 because the crossings of a block
            compete with each other and for the peaks of the box.
        corrections: alternating projections after each step; they take no pass through the network.
        margin: how far behind a boundary to aim, in grey levels of the orthonormal coefficient (or image units): rounding to 8 bits
            moves a coefficient by 0.3 (standard deviation).
        random_start: begin at a random point of the ball instead of the clean image.

    Raises:
        ValueError: a parameter out of its range; on :func:`run`: a victim without such a defence, an unbounded threat without
            ``step_size``.
    """

    steps: int = 20
    step_size: float | None = None
    momentum: float = 0.75
    price: float = 3.0
    corrections: int = 12
    margin: float = 0.5
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be > 0 in image units, got {self.step_size}; null takes eps / 2")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}; 0.75 is usual, 0 forgets at once")
        if not self.price > 0:
            raise ValueError(f"price must be > 0, got {self.price}; 1 crosses whatever pays alone, 3 is usual")
        if not isinstance(self.corrections, int) or self.corrections < 0:
            raise ValueError(f"corrections must be a whole number ≥ 0, got {self.corrections!r}; 12 is usual")
        if not self.margin >= 0:
            raise ValueError(f"margin must be ≥ 0 in image units, got {self.margin}; 0.5 survives rounding to 8 bits")

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """A random point of the ball, or the clean image without ``random_start``."""
        return ball.start(generators) if self.random_start else ball.image.clone()

    def gradient(
        self, victim: Victim, x: Images, loss: Callable[[Tensor], Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, losses and the gradient with respect to the *defended* image."""
        defense = lattice_of(victim)
        with torch.no_grad():
            defended = defense(x)
        return victim.without_defense().gradient(defended, loss, generators)

    def step(self, at: Iterate) -> Images:
        """A step up the running gradient towards the boundaries that are worth their cost, then ``corrections`` projections in turn.

        Raises:
            ValueError: the victim's defence quantises no coefficients.
        """
        defense, ball = lattice_of(at.victim), at.ball
        gradient = running(at, self.momentum)
        plan = self._plan(defense, ball, gradient)
        across = plan.moved(defense.levels(at.x)) >= plan.distance
        rising = torch.where(plan.fine | (plan.wanted & ~across), plan.slope, torch.zeros_like(plan.slope))
        x = at.x + self._length(ball) * _unit(ball, _pixels(defense, ball.image, rising))
        origin = defense.image_of(torch.zeros_like(rising), x.shape[2:])
        for _ in range(self.corrections if bool(plan.wanted.any()) else 0):
            x = ball.project(x)
            missing = (plan.distance - plan.moved(defense.levels(x))).clamp_min(0) * plan.wanted * plan.slope.sign()
            x = x + RELAXATION * (defense.image_of(missing, x.shape[2:]) - origin)
        return x

    def _plan(self, defense: Any, ball: Ball, gradient: Tensor) -> Plan:
        start = defense.levels(ball.image)
        slope = _slope(defense, start, gradient)
        step, budget = _step_sizes(defense, ball.image, start), _budget(ball)
        density = slope.abs() / step
        first = ((start.round() - start) * slope.sign() + 0.5) * step + self.margin
        rms = _block_rms(density)
        price = self.price * rms / (2 * budget)
        levels = ((density / price - 2 * first + 3 * step) / (2 * step)).floor().clamp_min(1)  # the last one that still pays
        fine = step <= budget * (2 * density / rms).nan_to_num(0, 0).clamp_min(FINE)
        wanted = (slope.abs() >= price * first**2) & ~fine & (slope != 0)
        return Plan(start, slope, first / step + levels.nan_to_num(1, 1) - 1, wanted, fine)

    def _length(self, ball: Ball) -> float | Tensor:
        if self.step_size is not None:
            return self.step_size
        if ball.threat.norm == "unbounded":
            raise ValueError("step_size must be given for an unbounded threat, got null; give it in image units")
        return ball.eps / 2


class Plan(NamedTuple):
    """Which coefficients are to move where, all in the layout of ``levels``; distances in levels from the clean image's."""

    start: Tensor
    slope: Tensor  # gradient of the loss per level
    distance: Tensor
    wanted: Tensor
    fine: Tensor

    def moved(self, levels: Tensor) -> Tensor:
        """How far ``levels`` are from the clean image's in the direction that raises the loss."""
        return (levels - self.start) * self.slope.sign()


def lattice_of(victim: Victim) -> Any:
    """The victim's defence, which must offer ``levels`` and ``image_of``.

    Raises:
        ValueError: it does not, or there is none.
    """
    defense = victim.defense
    if not (hasattr(defense, "levels") and hasattr(defense, "image_of")):
        name = "no defence" if defense is None else type(defense).__name__
        raise ValueError(
            f"Lattice needs a defence that rounds coefficients and offers levels and image_of, got {name}; put "
            "FrequencyRefinement or JPEG in front of the network and attack adaptively, or use PGD"
        )
    return defense


def _slope(defense: Any, start: Tensor, gradient: Tensor) -> Tensor:
    """The gradient per level: the adjoint of ``image_of``."""
    with torch.enable_grad():
        levels = start.detach().requires_grad_()
        return torch.autograd.grad(defense.image_of(levels, gradient.shape[2:]), levels, gradient)[0]


def _pixels(defense: Any, image: Tensor, slope: Tensor) -> Tensor:
    """The gradient per pixel of the input: the adjoint of ``levels``."""
    with torch.enable_grad():
        x = image.detach().requires_grad_()
        return torch.autograd.grad(defense.levels(x), x, slope)[0]


def _step_sizes(defense: Any, image: Tensor, levels: Tensor) -> Tensor:
    """The size (l2, image units) of one level of every coefficient, (1, C, \\*S'): measured on the unit levels of one block."""
    channels, dims = image.shape[1], image.ndim - 2
    count = channels * BLOCK**dims
    units = torch.eye(count, device=image.device).reshape(count, channels, *(BLOCK,) * dims).to(image)
    size = (BLOCK,) * dims
    change = defense.image_of(units, size) - defense.image_of(torch.zeros_like(units[:1]), size)
    block = change.flatten(1).norm(dim=1).reshape(1, channels, *size)
    return crop_to(block.repeat(1, 1, *(-(-n // BLOCK) for n in levels.shape[2:])), levels.shape[2:])


def _block_rms(x: Tensor) -> Tensor:
    """Root mean square over every block and channel, in the shape of ``x``."""
    dims = x.ndim - 2
    padded = functional.pad(x.square(), [side for n in reversed(x.shape[2:]) for side in (0, -n % BLOCK)])
    mean = (functional.avg_pool2d if dims == 2 else functional.avg_pool3d)(padded, BLOCK).sqrt()
    return crop_to(functional.interpolate(mean, scale_factor=float(BLOCK)), x.shape[2:])


def _budget(ball: Ball) -> Tensor:
    """The root mean square change that the threat allows, broadcastable against the image."""
    if ball.threat.norm == "linf":
        return ball.eps
    return ball.eps / ball.image[0].numel() ** 0.5 if ball.threat.norm == "l2" else ball.width


def _unit(ball: Ball, gradient: Tensor) -> Tensor:
    """The steepest direction; for an unbounded threat the gradient scaled to a largest change of 1."""
    direction = ball.direction(gradient)
    if ball.threat.norm != "unbounded":
        return direction
    return direction / direction.abs().flatten(1).amax(1).clamp_min(1e-30).reshape((-1,) + (1,) * (direction.ndim - 1))
