"""Linear changes of an image, so that eps can be said in another unit: standard deviations, or units at the network's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, NormalizeIntensity, ScaleIntensity, ScaleIntensityRangePercentiles, Transform
from torch import Tensor

from monai_advdef.audit.tail.kinds import Kind, kind_of, plain


class Times(Transform):
    """An image times a number."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, img: Tensor) -> Tensor:
        return img * self.factor


class Timesd(MapTransform):
    """The image under a key times a number, in float32; its meta stays."""

    def __init__(self, keys: str, factor: float) -> None:
        super().__init__(keys)
        self.factor = factor

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**data, **{key: _floating(data[key]) * self.factor for key in self.key_iterator(dict(data))}}


class PerSigmad(MapTransform):
    """The image (C, \\*S) under a key in units of its own standard deviation: that of its nonzero voxels, or of all.

    Zero stays zero. A network that is fed a z-score, or anything else that does not ask how bright an image is as a whole, gets the
    same from it.

    Args:
        keys: of the image.
        nonzero: of which voxels; channel_wise: of each channel its own deviation.
    """

    def __init__(self, keys: str, *, nonzero: bool = True, channel_wise: bool = True) -> None:
        super().__init__(keys)
        self.nonzero, self.channel_wise = nonzero, channel_wise

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        changed = dict(data)
        for key in self.key_iterator(changed):
            x = _floating(changed[key])
            changed[key] = x / sigma(x, nonzero=self.nonzero, channel_wise=self.channel_wise)
        return changed


def sigma(x: Tensor, *, nonzero: bool = True, channel_wise: bool = True) -> Tensor:
    """Standard deviations (C, 1, ...) of an image (C, \\*S); 1 where there is nothing to measure."""
    x = x.as_subclass(Tensor)
    parts = list(x) if channel_wise else [x] * len(x)
    found = []
    for part in parts:
        values = part[part != 0] if nonzero else part
        deviation = values.double().std(correction=0) if values.numel() else torch.tensor(0.0)
        found.append(float(deviation) or 1.0)
    return torch.tensor(found, dtype=x.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))


def brightness_free(transforms: list[Any]) -> dict[str, bool] | None:
    """Of which voxels a chain takes the scale that it divides by first; ``None`` where it depends on how bright an image is."""
    for t in transforms:
        array, kind = plain(t), kind_of(t)
        if kind in (Kind.IDLE, Kind.TYPES, Kind.SHAPES):
            continue
        if type(array) is NormalizeIntensity and array.subtrahend is None and array.divisor is None:
            return {"nonzero": bool(array.nonzero), "channel_wise": bool(array.channel_wise)}
        if type(array) is ScaleIntensity and array.minv is not None and array.maxv is not None:
            return {"nonzero": True, "channel_wise": bool(array.channel_wise)}
        if type(array) is ScaleIntensityRangePercentiles and array.b_min is not None and array.b_max is not None:
            return {"nonzero": True, "channel_wise": bool(array.channel_wise)}
        return None
    return None


def _floating(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else torch.as_tensor(x)
    changed = x if x.is_floating_point() else x.float()
    return changed if not isinstance(x, MetaTensor) or isinstance(changed, MetaTensor) else MetaTensor(changed).copy_meta_from(x)
