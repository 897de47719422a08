"""A displacement field and an intensity field, and what they make of an image: x'(p) = x(p + D(p)) + sigma V(p)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.synthesis.splines import Spacing, control_shape, spline_field
from monai_advdef.types import Images

PARTS = {"both": ("displacement", "intensity"), "deformation": ("displacement",), "intensity": ("intensity",)}


@dataclass(frozen=True)
class Fields:
    """Two cubic B-spline fields by their control points, for a batch of images.

    Attributes:
        displacement_points: (B, d, \\*M) in voxels along each axis.
        intensity_points: (B, 1, \\*M) in sigma of the image, the same for all its channels.
        size: \\*S of the images.
        spacing: distance of the control points in voxels, one number or one per axis.
    """

    displacement_points: Tensor
    intensity_points: Tensor
    size: tuple[int, ...]
    spacing: Spacing

    @cached_property
    def displacement(self) -> Tensor:
        """D (B, d, \\*S) in voxels."""
        return spline_field(self.displacement_points, self.size, self.spacing)

    @cached_property
    def intensity(self) -> Tensor:
        """V (B, 1, \\*S) in sigma."""
        return spline_field(self.intensity_points, self.size, self.spacing)

    def apply(self, image: Images) -> Images:
        """x' (B, C, \\*S) in image units; differentiable.

        Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019, section 2.
        """
        return warp(image, self.displacement) + moments(image)[1] * self.intensity


def fields_from(points: dict[str, Tensor], image: Images, spacing: Spacing) -> Fields:
    """Fields on the grid of ``image`` (B, C, \\*S) with these control points by the name of the field; an absent field is 0."""
    size = tuple(image.shape[2:])
    shape = control_shape(size, spacing)
    still = {part: image.new_zeros(len(image), n, *shape) for part, n in (("displacement", len(size)), ("intensity", 1))}
    of = {**still, **points}
    return Fields(of["displacement"], of["intensity"], size, spacing)


def parts_of(name: str) -> tuple[str, ...]:
    """Which fields ``"both"``, ``"deformation"`` or ``"intensity"`` stands for; ValueError for another name."""
    if name not in PARTS:
        raise ValueError(f"parts must be one of {', '.join(PARTS)}, got {name!r}")
    return PARTS[name]


def moments(image: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (sigma) of each channel of each image (B, C, \\*S), broadcastable against it, in image units."""
    dims = tuple(range(2, image.ndim))
    return image.mean(dims, keepdim=True), image.std(dims, correction=0, keepdim=True)


def standardize(image: Images, like: Images) -> Images:
    """``image`` in sigma of ``like``, both (B, C, \\*S); a channel that is constant in ``like`` only loses its mean."""
    mean, sigma = moments(like)
    return (image - mean) / torch.where(sigma > 0, sigma, 1.0)


def warp(image: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor:
    """x(p + D(p)) for images (B, C, \\*S) and D (B, d, \\*S) in voxels; outside the image its border goes on.

    Args:
        mode: ``"bilinear"`` (trilinear for volumes), or ``"nearest"`` for labels.
    """
    size = displacement.shape[2:]
    axes = [torch.arange(n, device=image.device, dtype=displacement.dtype) for n in size]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    scale = torch.tensor([2 / max(n - 1, 1) for n in size]).to(where).reshape((-1,) + (1,) * len(size))
    grid = (where * scale - 1).movedim(1, -1).flip(-1)
    return functional.grid_sample(image, grid.to(image), mode=mode, padding_mode="border", align_corners=True)


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + dD/dp) (B, \\*S - 1) by forward differences of D (B, d, \\*S) in voxels; not above 0 where the image folds."""
    dims = displacement.shape[1]
    inner = tuple(slice(0, n - 1) for n in displacement.shape[2:])
    columns = [torch.diff(displacement, dim=2 + axis)[_inside(inner, axis)] for axis in range(dims)]
    matrix = torch.stack(columns, -1).movedim(1, -2) + torch.eye(dims).to(displacement)
    return torch.linalg.det(matrix)


def _inside(inner: Sequence[slice], axis: int) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(None) if i == axis else part for i, part in enumerate(inner)))
