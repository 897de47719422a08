"""What an attacker takes for the gradient of a rounding, which by itself is zero wherever it exists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from monai_advdef.errors import nearest

SURROGATES = ("smooth", "straight_through", "identity")
SMOOTHNESS = 0.95


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, exact: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(slope)
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] if slope is None else grads[0] * slope, None, None


def straight_through(smooth: Tensor, exact: Tensor, slope: Tensor | None = None) -> Tensor:
    """The value of ``exact`` with the gradient of ``smooth`` (straight-through, Bengio et al. 2013, arXiv 1308.3432).

    Args:
        smooth, exact: of one shape.
        slope: what the gradient is multiplied by on its way; ``None``: 1.
    """
    return _StraightThrough.apply(smooth, exact.detach(), slope)


def round_ste(x: Tensor) -> Tensor:
    """Round half to even; the backward pass is the identity."""
    return straight_through(x, x.detach().round())


def clamp_ste(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to ``[low, high]``; the backward pass is the identity."""
    return straight_through(x, x.detach().clamp(low, high))


def round_smooth(x: Tensor, smoothness: float) -> Tensor:
    """Round half to even; the backward pass is that of :func:`slope_of`."""
    levels = x.detach()
    return straight_through(x, levels.round(), slope_of(levels, smoothness) if smoothness else None)


def slope_of(levels: Tensor, smoothness: float) -> Tensor:
    """``1 - a cos(2 pi x)``, the slope of the smooth rounding ``x - (a / 2 pi) sin(2 pi x)``, as a new tensor.

    That function meets the rounding at every whole and every half number; it is steep between two levels, where a small change
    moves the rounded value, and flat at a level, where none does. ``a = 0`` is the straight-through gradient.

    Args:
        levels: values in units of the step to which they are rounded.
        smoothness: ``a`` in [0, 1].
    """
    offset = levels - levels.round()  # the cosine of a small angle is the more exact
    return offset.mul_(2 * math.pi).cos_().mul_(-smoothness).add_(1)


def check_surrogate(surrogate: str | None, smoothness: float, known: Sequence[str | None] = SURROGATES) -> None:
    """Nothing, for a surrogate out of ``known`` and a smoothness in [0, 1].

    Raises:
        ValueError: another one; naming the known ones, or the range.
    """
    if surrogate not in known:
        names = [name for name in known if name is not None]
        told = ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}" + (" or None" if None in known else "")
        raise ValueError(f"surrogate must be {told}, got {surrogate!r}; {nearest(str(surrogate), names)}")
    if not isinstance(smoothness, Real) or isinstance(smoothness, bool) or not 0 <= smoothness <= 1:
        raise ValueError(f"smoothness must lie in [0, 1], got {smoothness!r}; {SMOOTHNESS} is usual, 0 is straight through")
