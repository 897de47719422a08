"""What the fields are trained for: a segmentation that fails by a given amount, in images that stay near and smooth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.synthesis.fields import Fields
from monai_advdef.types import Logits, PerCase


def organ_cross_entropy(
    logits: Logits, label: Tensor, *, head: str = "softmax", per_organ: bool = True, limit: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Cross-entropy inside the labelled organs, and where there is an organ at all, both (B, K').

    Args:
        logits: (B, K, \\*S).
        label: class map (B, 1, \\*S) for head ``"softmax"`` (class 0 is no organ), masks (B, K, \\*S) for ``"sigmoid"``.
        per_organ: a mean for each organ (K' organs), so that a small one counts as much as the liver; false: one over the voxels of
            all organs together (K' = 1), the paper's L_mce.
        limit: what a voxel counts for at most, in nats. With the hinge's xi a voxel that is wrong beyond it makes up for no other:
            the hinge of the mean is then the mean of the voxels' hinges.

    Source: Chen et al. 2019, the masked cross-entropy; the mean per organ and the limit are ours.
    """
    if head == "softmax":
        value = logits.log_softmax(1)[:, 1:]
        mask = functional.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits)
    else:
        value, mask = functional.logsigmoid(logits), label.to(logits)
    total, voxels = (value.clamp_min(-limit) * mask).flatten(2).sum(2), mask.flatten(2).sum(2)
    if not per_organ:
        total, voxels = total.sum(1, keepdim=True), voxels.sum(1, keepdim=True)
    return -total / voxels.clamp_min(1), voxels > 0


def hinge(cross_entropy: Tensor, present: Tensor, xi: float) -> PerCase:
    """max(0, xi - L), mean over the organs that are present, of (B, K') to (B,); 0 where there are none.

    Source: Chen et al. 2019, the attack loss; xi in nats.
    """
    short = (xi - cross_entropy).clamp_min(0) * present
    return short.sum(1) / present.sum(1).clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class FieldPenalty:
    """What roughness and size of the fields cost, per case.

    ``smooth_displacement mean |dD|^2 + smooth_intensity mean |dV|^2 + norm_displacement mean D^2 + norm_intensity mean V^2``, D in
    voxels, V in sigma, derivatives by forward differences, summed over the axes.

    Raises:
        ValueError: a weight below 0.

    Source: Chen et al. 2019: 0.1 and 0.01 for smoothness. Their text also limits the norm without giving its weights; 1 and 3 are
    ours: without them V drifts to a constant offset, and D moves whole edges, which costs most of the perceptibility.
    """

    smooth_displacement: float = 0.1
    smooth_intensity: float = 0.01
    norm_displacement: float = 1.0
    norm_intensity: float = 3.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight}; 0 leaves the term out")

    def __call__(self, fields: Fields) -> PerCase:
        displacement, intensity = fields.displacement, fields.intensity
        return (
            self.smooth_displacement * _roughness(displacement)
            + self.smooth_intensity * _roughness(intensity)
            + self.norm_displacement * displacement.square().flatten(1).mean(1)
            + self.norm_intensity * intensity.square().flatten(1).mean(1)
        )


def _roughness(field: Tensor) -> PerCase:
    """Mean squared gradient of a field (B, C, \\*S), averaged over its components."""
    return torch.stack([field.diff(dim=axis).square().flatten(1).mean(1) for axis in range(2, field.ndim)]).sum(0)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, draws: torch.Generator) -> Tensor:
    """mean (sqrt(N) |dC/dx| - 1)^2 at random points between real and fake images (B, C, \\*S) of N values each.

    With the factor sqrt(N) the critic is 1-Lipschitz in the root mean square change (the perceptibility), so that what it can say
    against an image does not grow with the size of the image.

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, equation 3, scaled.
    """
    share = torch.rand(len(real), generator=draws).to(real).reshape((-1,) + (1,) * (real.ndim - 1))
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    slope = torch.linalg.vector_norm(gradient.flatten(1), dim=1) * real[0].numel() ** 0.5
    return (slope - 1).square().mean()
