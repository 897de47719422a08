"""The intensity transforms of MONAI as differentiable functions of one image (C, \\*S).

A network that was made elsewhere is fed by transforms that scale: ``ScaleIntensityRange`` maps a window of Hounsfield units to
[0, 1], ``NormalizeIntensity`` divides by a standard deviation that an attacked image changes. MONAI's own transforms cut the
gradient of such statistics (they leave as Python numbers), so they are written here a second time, and held against MONAI's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.transforms import (
    AdjustContrast,
    ClipIntensityPercentiles,
    NormalizeIntensity,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    ShiftIntensity,
    StdShiftIntensity,
    ThresholdIntensity,
)
from torch import Tensor, nn

from monai_advdef.audit.tail.contrast import adjust_contrast, std_shift


def _scale_range(t: ScaleIntensityRange, x: Tensor) -> Tensor:
    return _ranged(x, t.a_min, t.a_max, t.b_min, t.b_max, t.clip)


def _ranged(x: Tensor, low: Any, high: Any, to_low: float | None, to_high: float | None, clip: bool) -> Tensor:
    if high - low == 0:
        return x - low + (to_low or 0)
    x = (x - low) / (high - low)
    if to_low is not None and to_high is not None:
        x = x * (to_high - to_low) + to_low
    return x.clamp(to_low, to_high) if clip and (to_low, to_high) != (None, None) else x


def _scale(t: ScaleIntensity, x: Tensor) -> Tensor:
    if t.minv is None and t.maxv is None:
        return x if t.factor is None else x * (1 + t.factor)
    return _by_channel(t.channel_wise, x, lambda part: _to_unit(part, t.minv, t.maxv))


def _to_unit(x: Tensor, to_low: float | None, to_high: float | None) -> Tensor:
    low, high = x.amin(), x.amax()
    if low == high:
        return x if to_low is None else x * to_low
    return _ranged(x, low, high, to_low, to_high, clip=False)


def _normalize(t: NormalizeIntensity, x: Tensor) -> Tensor:
    if not t.channel_wise:
        return _standardized(x, t.subtrahend, t.divisor, bool(t.nonzero))
    for name in ("subtrahend", "divisor"):
        given = getattr(t, name)
        if given is not None and len(given) != len(x):
            raise ValueError(f"NormalizeIntensity has {len(given)} numbers as {name}, the image has {len(x)} channels")
    given = [[None] * len(x) if s is None else s for s in (t.subtrahend, t.divisor)]
    return torch.stack([_standardized(part, s, d, bool(t.nonzero)) for part, s, d in zip(x, *given)])


def _standardized(x: Tensor, subtrahend: Any, divisor: Any, nonzero: bool) -> Tensor:
    """Sums over a mask, and no selection of voxels: its gradient takes several times as long."""
    inside = x != 0 if nonzero else None
    count = x.numel() if inside is None else int(inside.sum())
    if not count:
        return x
    mean = (x if inside is None else x * inside).sum() / count
    if divisor is None:  # written out: the square root of 0 has no gradient
        off = x - mean if inside is None else (x - mean) * inside
        spread = off.square().sum() / count
        deviation = spread.sqrt() if spread > 0 else torch.ones_like(spread)
    else:
        deviation = torch.as_tensor(divisor, dtype=x.dtype, device=x.device)
        deviation = torch.where(deviation == 0, torch.ones_like(deviation), deviation)
    if subtrahend is not None:
        mean = torch.as_tensor(subtrahend, dtype=x.dtype, device=x.device)
    out = (x - mean) / deviation
    return out if inside is None else torch.where(inside, out, x)


def _scale_percentiles(t: ScaleIntensityRangePercentiles, x: Tensor) -> Tensor:
    to_low, to_high = t.b_min, t.b_max
    if t.relative:
        if t.b_min is None or t.b_max is None:
            raise ValueError("ScaleIntensityRangePercentiles is relative without b_min and b_max; MONAI refuses it, too")
        to_low, to_high = (t.b_min + (t.b_max - t.b_min) * q / 100 for q in (t.lower, t.upper))

    def scale(part: Tensor) -> Tensor:
        low, high = percentiles(part, t.lower, t.upper)
        return _ranged(part, low, high, to_low, to_high, t.clip)

    return _by_channel(t.channel_wise, x, scale)


def _clip_percentiles(t: ClipIntensityPercentiles, x: Tensor) -> Tensor:
    def clip(part: Tensor) -> Tensor:
        low, high = percentiles(part, t.lower, t.upper)
        if t.sharpness_factor is None:
            return part.clamp(low, high)
        sharp, out = t.sharpness_factor, part
        if low is not None:
            out = out + nn.functional.softplus(-sharp * (part - low)) / sharp
        return out if high is None else out - nn.functional.softplus(sharp * (part - high)) / sharp

    return _by_channel(t.channel_wise, x, clip)


def _by_channel(channel_wise: bool, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([change(part) for part in x]) if channel_wise else change(x)


def percentiles(x: Tensor, *wanted: float | None) -> list[Any]:
    """numpy's ``linear`` percentiles, ``None`` for ``None``; ``torch.quantile`` sorts, and takes at most 16 million values.

    The gradient goes to the voxels that hold them; which one of several equal ones is left open.
    """
    flat = x.flatten()
    places = [None if q is None else q / 100 * (flat.numel() - 1) for q in wanted]
    ranks = sorted({min(int(p) + more, flat.numel() - 1) for p in places if p is not None for more in (0, 1)})
    values = flat.detach()
    order = torch.from_numpy(values.numpy().argpartition(ranks)) if x.device.type == "cpu" else values.argsort()
    held = dict(zip(ranks, flat[order[ranks].to(x.device)]))

    def at(p: float) -> Tensor:
        below = int(p)
        return held[below] if p == below else held[below] + (p - below) * (held[below + 1] - held[below])

    return [None if p is None else at(p) for p in places]


def _threshold(t: ThresholdIntensity, x: Tensor) -> Tensor:
    return torch.where(x > t.threshold if t.above else x < t.threshold, x, torch.full_like(x, t.cval))


KNOWN: dict[type, Callable[[Any, Tensor], Tensor]] = {
    ScaleIntensityRange: _scale_range,
    ScaleIntensity: _scale,
    NormalizeIntensity: _normalize,
    ScaleIntensityRangePercentiles: _scale_percentiles,
    ClipIntensityPercentiles: _clip_percentiles,
    ShiftIntensity: lambda t, x: x + t.offset,
    ThresholdIntensity: _threshold,
    AdjustContrast: adjust_contrast,
    StdShiftIntensity: std_shift,
}
