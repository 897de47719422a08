"""nnU-Net's schemes of normalisation as differentiable functions; their statistics are those of the image that is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Scheme = Callable[[Tensor, Tensor | None, Mapping[str, float]], Tensor]
LEAST = 1e-8  # nnU-Net's least divisor


def _ct(x: Tensor, mask: Tensor | None, told: Mapping[str, float]) -> Tensor:
    clipped = x.clamp(told["percentile_00_5"], told["percentile_99_5"])
    return (clipped - told["mean"]) / max(told["std"], LEAST)


def _zscore(x: Tensor, mask: Tensor | None, told: Mapping[str, float]) -> Tensor:
    """Of the whole image or, with a mask, inside it; what lies outside stays as it is."""
    mean, std = moments(x if mask is None else x[mask])
    scaled = ((x - mean) / std.clamp_min(LEAST)).to(x.dtype)
    return scaled if mask is None else torch.where(mask, scaled, x)


def _rescale(x: Tensor, mask: Tensor | None, told: Mapping[str, float]) -> Tensor:
    x = x - x.amin()
    return x / x.amax().clamp_min(LEAST)


def _rgb(x: Tensor, mask: Tensor | None, told: Mapping[str, float]) -> Tensor:
    return x / 255.0


SCHEMES: dict[str, Scheme] = {
    "CTNormalization": _ct,
    "ZScoreNormalization": _zscore,
    "NoNormalization": lambda x, mask, told: x,
    "RescaleTo01Normalization": _rescale,
    "RGBTo01Normalization": _rgb,
}


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) deviation in float64; a deviation of 0 passes no gradient."""
    values = values.double()
    mean = values.mean()
    spread = (values - mean).square().mean()
    return mean, spread.sqrt() if bool(spread > 0) else spread.detach()
