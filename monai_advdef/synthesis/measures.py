"""How much an image was changed, whether it was folded, and where its labels have moved to."""

from __future__ import annotations

import torch
from monai.metrics import SSIMMetric
from torch import Tensor

from monai_advdef.synthesis.fields import Fields, jacobian_determinant, moments, standardize, warp
from monai_advdef.types import Images, PerCase


def perceptibility(image: Images, clean: Images) -> PerCase:
    """Root mean square of the change of (B, C, \\*S) in sigma of each channel of the clean image.

    Source: Chen et al. 2019. Their sigma is that of the whole subject, not windowed: in a window the same change counts for more.
    """
    return (standardize(image, clean) - standardize(clean, clean)).square().flatten(1).mean(1).sqrt()


def ssim(image: Images, clean: Images) -> PerCase:
    """Structural similarity (B,) of (B, C, \\*S), each with the range of its clean image; windows of 11 voxels or what fits.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004; by MONAI.
    """
    window = min(11, *((n - 1) // 2 * 2 + 1 for n in image.shape[2:]))
    values = []
    for x, y in zip(image, clean):
        width = max(float(y.max() - y.min()), torch.finfo(y.dtype).tiny)
        metric = SSIMMetric(image.ndim - 2, data_range=width, win_size=window)
        values.append(torch.as_tensor(metric(x[None], y[None])).mean())
    return torch.stack(values)


def warped_label(label: Tensor, fields: Fields) -> Tensor:
    """Labels (B, 1|K, \\*S) where the fields have moved them, by the nearest voxel."""
    return warp(label.float(), fields.displacement, mode="nearest")


def field_readings(fields: Fields, image: Images, clean: Images, spacing: list[float]) -> dict[str, Tensor]:
    """What the fields did to each case (B,).

    Args:
        image, clean: (B, C, \\*S) in image units, changed and as it was.
        spacing: of the voxels along each axis, in mm.

    Returns:
        ``displacement_max_mm``, ``displacement_mean_mm``; ``intensity_max``, ``intensity_rms`` of the intensity field in image
        units (the largest channel's); ``change_rms`` in image units; ``perceptibility`` in sigma; ``ssim``; ``min_jacobian``.
    """
    dims = image.ndim - 2
    step = fields.displacement * torch.tensor(spacing).to(fields.displacement).reshape((-1,) + (1,) * dims)
    length = torch.linalg.vector_norm(step, dim=1).flatten(1)
    added = (moments(clean)[1].amax(1, keepdim=True) * fields.intensity).flatten(1)
    return {
        "displacement_max_mm": length.amax(1),
        "displacement_mean_mm": length.mean(1),
        "intensity_max": added.abs().amax(1),
        "intensity_rms": added.square().mean(1).sqrt(),
        "change_rms": (image - clean).square().flatten(1).mean(1).sqrt(),
        "perceptibility": perceptibility(image, clean),
        "ssim": ssim(image, clean),
        "min_jacobian": jacobian_determinant(fields.displacement).flatten(1).amin(1),
    }
