"""Fields that are smooth by construction: uniform cubic B-splines over a coarse grid of control points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Control displacements up to 1/K of the spacing keep the map one to one: Choi & Lee, "Injectivity conditions of 2D and 3D uniform
# cubic B-spline functions", Graphical Models 62, 2000.
INJECTIVITY = {2: 2.046392675, 3: 2.479472335}

Spacing = int | Sequence[int]


def per_axis(spacing: Spacing, dims: int) -> tuple[int, ...]:
    """The distance of control points along each of ``dims`` axes, in voxels.

    Raises:
        ValueError: not one whole number ≥ 1, nor one per axis.
    """
    steps = (spacing,) * dims if isinstance(spacing, int) else tuple(int(h) for h in spacing)
    if len(steps) != dims or min(steps) < 1:
        raise ValueError(f"spacing must be a whole number of voxels ≥ 1, or one for each of the {dims} axes, got {spacing!r}")
    return steps


def control_shape(size: Sequence[int], spacing: Spacing) -> tuple[int, ...]:
    """How many control points along each axis a grid of ``size`` voxels needs: (n - 1) // h + 4."""
    return tuple((n - 1) // h + 4 for n, h in zip(size, per_axis(spacing, len(size))))


def spline_field(points: Tensor, size: Sequence[int], spacing: Spacing) -> Tensor:
    """Cubic B-spline with control points (B, C, \\*M) on the voxels of ``size``: (B, C, \\*S), within their range.

    M is :func:`control_shape`; point number 1 of an axis lies on its voxel 0.
    """
    for n, h in zip(size, per_axis(spacing, len(size))):
        points = torch.tensordot(points, _basis(n, h).to(points), dims=([2], [1]))  # the axis goes to the end, so the next one is 2
    return points


def check_displacement(max_displacement: float, spacing: Spacing, dims: int) -> None:
    """ValueError unless control displacements up to ``max_displacement`` voxels can never fold the image.

    Source: the sufficient condition of Choi & Lee 2000, max_displacement ≤ spacing / K with K = 2.05 in 2D and 2.48 in 3D.
    """
    limit = min(per_axis(spacing, dims)) / INJECTIVITY[dims]
    if not 0 <= max_displacement <= limit:
        raise ValueError(
            f"max_displacement must lie in 0..{limit:.2f} voxels for control points {spacing} voxels apart, got {max_displacement}: "
            "beyond it the image may fold; lower it, or raise spacing"
        )


def _basis(n: int, h: int) -> Tensor:
    """Weights (n, (n - 1) // h + 4) of the control points for each voxel; every row sums to 1."""
    cell = torch.arange(n) // h
    u = (torch.arange(n) % h).double() / h
    pieces = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    weights = torch.zeros(n, (n - 1) // h + 4, dtype=torch.float64)
    for k, piece in enumerate(pieces):
        weights[torch.arange(n), cell + k] = piece / 6
    return weights
