"""Whether autograd's gradient of a function is its slope: directional derivatives against finite differences.

A transform that is not known is run as it is, and believed only where this holds. Statistics that leave as Python numbers (a mean, a
maximum) cut the gradient where random directions hardly see it, so the constant image and the image itself are directions, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

STEP = 1e-3  # of the image's range: where float32 neither rounds nor bends too much
SLACK = 0.02  # of the length of the derivative


def gradient_error(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Largest difference between finite differences of ``function`` at ``x`` and autograd's derivative, as a share of their length.

    Infinite where no gradient is passed.

    Args:
        function: any shape to any shape, without side effects; called some seven times.
        x: where, (C, \\*S); a plain tensor.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        out = function(leaf)
        if not out.requires_grad:
            return float("inf")
        weight = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, leaf, weight, create_graph=True, allow_unused=True)
        if back is None or not back.requires_grad:
            return float("inf")
    step = STEP * (float(x.max() - x.min()) or 1.0)
    rounding = 2e-5 * out.numel() ** 0.5 * float(out.detach().abs().max()) / step
    worst = 0.0
    for direction in _directions(x.detach()):
        (slope,) = torch.autograd.grad(back, weight, direction, retain_graph=True)
        with torch.no_grad():
            secant = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
        length = max(float(secant.norm()), float(slope.norm()), rounding, 1e-30)
        worst = max(worst, float((secant - slope).norm()) / length)
    return worst


def _directions(x: Tensor) -> Iterator[Tensor]:
    """All voxels at once, the image about its mean, and a random smooth field, each at most 1."""
    yield torch.ones_like(x)
    centred = x - x.mean()
    yield centred / centred.abs().max().clamp_min(1e-12)
    coarse = torch.randn((1, 1, *(4,) * (x.ndim - 1)), generator=torch.Generator().manual_seed(0))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 1]
    field = torch.nn.functional.interpolate(coarse, size=x.shape[1:], mode=mode, align_corners=True)[0].to(x)
    yield (field / field.abs().max()).expand_as(x)
