"""Further intensity transforms of MONAI as differentiable functions: its own cut the gradient, or write in place."""

from __future__ import annotations

import torch
from monai.transforms import AdjustContrast, StdShiftIntensity
from torch import Tensor


def adjust_contrast(t: AdjustContrast, x: Tensor) -> Tensor:
    """``AdjustContrast``: the power of the image scaled to its own minimum and maximum; the least voxels stay where they are."""
    x = -x if t.invert_image else x
    low, reach = x.amin(), x.amax() - x.amin()
    share = (x - low) / (reach + 1e-7)
    above = share > 0  # a power below 1 has no slope at 0
    out = torch.where(above, torch.where(above, share, torch.ones_like(share)).pow(t.gamma), torch.zeros_like(share)) * reach + low
    if t.retain_stats:
        out = out - out.mean()
        out = x.std() * out / (out.std() + 1e-8) + x.mean()
    return -out if t.invert_image else out


def std_shift(t: StdShiftIntensity, x: Tensor) -> Tensor:
    """``StdShiftIntensity``: the image, or its nonzero voxels, shifted by a multiple of their own standard deviation."""
    return torch.stack([_shifted(part, t) for part in x]) if t.channel_wise else _shifted(x, t)


def _shifted(x: Tensor, t: StdShiftIntensity) -> Tensor:
    inside = x != 0 if t.nonzero else torch.ones_like(x, dtype=torch.bool)
    if not bool(inside.any()):
        return x
    values = x[inside]
    spread = (values - values.mean()).square().mean()
    deviation = spread.sqrt() if bool(spread > 0) else torch.zeros_like(spread)
    return torch.where(inside, x + t.factor * deviation, x)
