"""The intensity transforms at the end of a preprocessing as a differentiable part of the victim: eps is in units of the image.

A network that was made elsewhere is fed by transforms that scale: ``ScaleIntensityRange`` maps a window of Hounsfield units to
[0, 1], ``NormalizeIntensity`` divides by a standard deviation that an attacked image changes. MONAI's own transforms cut the
gradient of such statistics (they leave as Python numbers), so they are written here a second time, and held against MONAI's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.transforms import (
    CastToType,
    ClipIntensityPercentiles,
    Compose,
    EnsureType,
    MapTransform,
    NormalizeIntensity,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    ShiftIntensity,
    ThresholdIntensity,
    ToTensor,
    Transform,
)
from torch import Tensor, nn

from monai_advdef.types import Images

TOLERANCE = 1e-5  # of the range of MONAI's output, or of 1 where that is smaller


class NotDifferentiable(ValueError):
    """A preprocessing whose end cannot be made a part of the victim; the message names the transform and what it stands behind."""


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
    inside = x != 0 if nonzero else torch.ones_like(x, dtype=torch.bool)
    if not inside.any():
        return x
    values = x[inside]
    mean = values.mean() if subtrahend is None else torch.as_tensor(subtrahend, dtype=x.dtype, device=x.device)
    if divisor is None:  # written out: the square root of 0 has no gradient
        spread = (values - values.mean()).square().mean()
        deviation = spread.sqrt() if spread > 0 else torch.ones_like(spread)
    else:
        deviation = torch.as_tensor(divisor, dtype=x.dtype, device=x.device)
        deviation = torch.where(deviation == 0, torch.ones_like(deviation), deviation)
    return torch.where(inside, (x - mean) / deviation, x)


def _scale_percentiles(t: ScaleIntensityRangePercentiles, x: Tensor) -> Tensor:
    to_low, to_high = t.b_min, t.b_max
    if t.relative:
        if t.b_min is None or t.b_max is None:
            raise ValueError("ScaleIntensityRangePercentiles is relative without b_min and b_max; MONAI refuses it, too")
        to_low, to_high = (t.b_min + (t.b_max - t.b_min) * q / 100 for q in (t.lower, t.upper))
    return _by_channel(
        t.channel_wise,
        x,
        lambda part: _ranged(part, _percentile(part, t.lower), _percentile(part, t.upper), to_low, to_high, t.clip),
    )


def _clip_percentiles(t: ClipIntensityPercentiles, x: Tensor) -> Tensor:
    def clip(part: Tensor) -> Tensor:
        low, high = (None if q is None else _percentile(part, q) for q in (t.lower, t.upper))
        if t.sharpness_factor is None:
            return part.clamp(low, high)
        sharp, out = t.sharpness_factor, part
        if low is not None:
            out = out + nn.functional.softplus(-sharp * (part - low)) / sharp
        return out if high is None else out - nn.functional.softplus(sharp * (part - high)) / sharp

    return _by_channel(t.channel_wise, x, clip)


def _by_channel(channel_wise: bool, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([change(part) for part in x]) if channel_wise else change(x)


def _percentile(x: Tensor, q: float) -> Tensor:
    """numpy's ``linear`` percentile; ``torch.quantile`` takes at most 16 million values."""
    flat = x.flatten()
    place = q / 100 * (flat.numel() - 1)
    below = int(place)
    low = flat.kthvalue(below + 1).values
    return low if place == below else low + (place - below) * (flat.kthvalue(below + 2).values - low)


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
}
READING = ("monai.transforms.io.", "monai.transforms.spatial.", "monai.transforms.croppad.")  # rooms of MONAI that leave values
ARRANGING = (
    "EnsureChannelFirst Identity ToDevice Transpose SqueezeDim SplitDim RepeatChannel SelectItems DeleteItems CopyItems ConcatItems"
)
NEUTRAL = (EnsureType, ToTensor, CastToType)  # they change the type of an image, and no value


class IntensityTail(nn.Module):
    """Intensity transforms of MONAI as one differentiable function: images (B, C, \\*S) in image units -> what the network is fed.

    Statistics (minimum, mean, percentiles, ...) are those of the image that is given, so the gradient runs through them, too; a
    voxel that leaves 0 comes among the nonzero ones, as it would where the network is deployed. Give it to a victim as what stands
    before the network: ``Victim(network, normalize=IntensityTail(transforms))``.

    Args:
        transforms: MONAI's own transforms, array or dictionary, in their order; of dictionary transforms the keys do not matter.

    Raises:
        NotDifferentiable: a transform that is not known here, or one of another class that inherits from a known one.
    """

    def __init__(self, transforms: Iterable[Any]) -> None:
        super().__init__()
        self.transforms = [_plain(t) for t in transforms]
        for t in self.transforms:
            if type(t) not in KNOWN and type(t) not in NEUTRAL:
                raise NotDifferentiable(
                    f"{type(t).__name__} is not known as a differentiable transform; known: {', '.join(k.__name__ for k in KNOWN)}; "
                    "attack the input of the network, and say so"
                )

    def forward(self, image: Images) -> Tensor:
        """What the network is fed (B, C, \\*S), in float32."""
        return torch.stack([self._one(case) for case in image.as_subclass(Tensor).float()])

    def _one(self, x: Tensor) -> Tensor:
        for t in self.transforms:
            x = x if type(t) in NEUTRAL else KNOWN[type(t)](t, x)
        return x

    def difference(self, image: Images) -> float:
        """Largest difference to what MONAI's transforms make of these images, as a share of the range of their output (or of 1)."""
        image = image.detach().as_subclass(Tensor).float()
        worst = 0.0
        for case, ours in zip(image, self(image)):
            theirs: Any = case.clone()
            for t in self.transforms:
                theirs = t(theirs)
            theirs = torch.as_tensor(theirs).as_subclass(Tensor).float()
            reach = max(1.0, float(theirs.max() - theirs.min()))
            worst = max(worst, float((ours - theirs).abs().max()) / reach)
        return worst

    def require_equal(self, image: Images, names: Sequence[str] = ()) -> None:
        """Raise ``NotDifferentiable`` for the first case (``names`` tells them) whose values are not MONAI's own to 1e-5."""
        for i, case in enumerate(image):
            off = self.difference(case[None])
            if not off <= TOLERANCE:
                told = ", ".join(type(t).__name__ for t in self.transforms)
                raise NotDifferentiable(
                    f"{names[i] if names else f'case {i}'}: {told} differ from MONAI's own by {off:.2g} of their range, more than "
                    f"{TOLERANCE:g}; attack the input of the network, and say so"
                )


def _plain(transform: Any) -> Any:
    """The array transform inside a dictionary transform."""
    if not isinstance(transform, MapTransform):
        return transform
    inside = [v for v in vars(transform).values() if isinstance(v, Transform)]
    return inside[0] if len(inside) == 1 else transform


@dataclass(frozen=True)
class Divided:
    """A preprocessing in two: ``head`` reads and shapes the image, then in its own units; ``tail`` scales it for the network."""

    head: Compose
    tail: IntensityTail


def divided(preprocessing: Any, key: str = "image", *, reads: Sequence[str] = ()) -> Divided:
    """Divide a preprocessing before its first intensity transform of the image.

    Args:
        preprocessing: a ``Compose``, or a list of transforms, array or dictionary.
        key: of the image in a dictionary; transforms of other keys stay in the head, in their order.
        reads: names of classes of one's own that read or shape an image and leave its values; others are refused.

    Raises:
        NotDifferentiable: a transform that may change intensities and is not known, so that the units of the image would be lost;
            behind the first intensity transform one that is none; one that scales several keys at once.
    """
    head: list[Any] = []
    tail: list[Any] = []
    for t in _flat(preprocessing):
        array, others = _plain(t), [k for k in getattr(t, "keys", ()) if k != key]
        if isinstance(t, MapTransform) and key not in t.keys and not (tail and getattr(t, "source_key", None) == key):
            head.append(t)
        elif type(array) in NEUTRAL:
            if others or not tail:
                head.append(t)  # for the other keys; the image's type is float32 in the tail
        elif type(array) in KNOWN:
            if others:
                raise NotDifferentiable(f"{type(t).__name__} scales {[key, *others]} at once; give each key a transform of its own")
            tail.append(t)
        else:
            _require_reading(t, tail, reads)
            head.append(t)
    return Divided(Compose(head), IntensityTail(tail))


def _flat(preprocessing: Any) -> list[Any]:
    return list(preprocessing.flatten().transforms) if isinstance(preprocessing, Compose) else list(preprocessing)


def _require_reading(transform: Any, tail: Sequence[Any], reads: Sequence[str]) -> None:
    """Refuse a transform that stands behind the tail, or that may change the values of an image."""
    kind = type(transform)
    if tail:
        raise NotDifferentiable(
            f"{kind.__name__} stands behind {type(tail[0]).__name__}, which changes intensities, and is no known intensity "
            "transform; put it before, or attack the input of the network, and say so"
        )
    arranging = kind.__module__.startswith("monai.transforms.utility.") and kind.__name__.removesuffix("d") in ARRANGING.split()
    if not kind.__module__.startswith(READING) and not arranging and kind.__name__ not in reads:
        raise NotDifferentiable(
            f"{kind.__name__} of {kind.__module__} may change intensities, so the units of the image would be lost; if it only "
            f"reads or shapes images, say so: reads=[{kind.__name__!r}]; else attack the input of the network, and say so"
        )
