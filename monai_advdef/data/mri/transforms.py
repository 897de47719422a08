"""Dictionary transforms for volumes of several series: their order, their labels there and back, their intensities in σ."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_advdef.data.transforms import item_name
from monai_advdef.data.volume_files import WHOLE
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["MapLabelsd", "NormalizeSeriesd", "OrderSeriesd", "UnmapLabelsd"]

BRATS = (0, 1, 2, 4)


class OrderSeriesd(MapTransform):
    """Volumes ``(C, *S)`` with their channels in the order ``data[order_key]``; unchanged where the case has no such entry.

    Raises:
        DataError: fewer channels than the order asks for, naming the file.
    """

    @as_written
    def __init__(self, keys: KeysCollection, *, order_key: str = "series_order", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.order_key = order_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        order = [int(place) for place in data.get(self.order_key, ())]
        for key in self.key_iterator(result) if order else ():
            if result[key].shape[0] <= max(order):
                raise DataError(f"{item_name(data, key, None)} has {result[key].shape[0]} series where {len(order)} are expected")
            result[key] = result[key][order]
        return result


class _Relabeld(MapTransform):
    """Base of the two that exchange label values; the pairs come from ``data[values_key]`` where the case says them."""

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        values: Sequence[int] = BRATS,
        values_key: str = "label_values",
        name_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(set(values)) != len(values) or len(values) < 2:
            raise ValueError(f"values must be at least two different numbers, one per class, got {list(values)}")
        self.values, self.values_key, self.name_key = tuple(values), values_key, name_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        stored = [int(value) for value in data.get(self.values_key, self.values)]
        for key in self.key_iterator(result):
            label = result[key]
            pairs = self.pairs(stored)
            mapped, known = label.clone(), torch.zeros_like(label, dtype=torch.bool)
            for old, new in pairs.items():
                at = (label - old).abs() <= WHOLE if label.is_floating_point() else label == old
                mapped[at], known = new, known | at
            if not bool(known.all()):
                odd = ", ".join(f"{value:.9g}" for value in label[~known].unique().tolist()[:4])
                raise DataError(
                    f"{item_name(data, key, self.name_key)} holds the label {odd}; known are {', '.join(map(str, pairs))}: correct "
                    f"the file (resample labels by nearest neighbour), or set {self.values_key} or values"
                )
            result[key] = mapped
        return result

    @abstractmethod
    def pairs(self, stored: Sequence[int]) -> dict[int, int]:
        """What each value becomes."""


class MapLabelsd(_Relabeld):
    """Label values as stored to class numbers: ``(1, *S)`` of the same type, ``values[k]`` becomes ``k``; metadata are kept.

    ``values`` are those of BraTS (0, 1, 2, 4) unless the case brings its own under ``values_key``, as :func:`dataset` gives it.
    A value within .001 of one of them, as floating-point files hold it, is taken for it.

    Raises:
        DataError: a value that is none of them, naming the file.
    """

    def pairs(self, stored: Sequence[int]) -> dict[int, int]:
        """Stored value to class number."""
        return {value: number for number, value in enumerate(stored)}


class UnmapLabelsd(_Relabeld):
    """Class numbers back to the label values of the case's data set: the inverse of :class:`MapLabelsd`, for saving.

    Raises:
        DataError: a number that is no class, naming the file.
    """

    def pairs(self, stored: Sequence[int]) -> dict[int, int]:
        """Class number to stored value."""
        return dict(enumerate(stored))


class NormalizeSeriesd(MapTransform):
    """Each series of ``(C, *S)`` in σ: mean 0 and standard deviation 1 over its nonzero voxels, then clipped; zeros stay 0.

    The result is float32 and a copy, so the unit of every eps is one standard deviation of the series. Metadata are kept, and say
    what was taken off and divided by: ``series_mean`` and ``series_std`` (C,), in the units of the file, before the clipping;
    ``unit_size`` (C,), the size of one unit of the result in units of the file, is ``series_std`` again.

    Raises:
        ValueError: ``clip`` that is not above 0.
        DataError: NaN or infinite voxels, or a series without content (all zeros, or one value), naming the file.
    """

    @as_written
    def __init__(
        self, keys: KeysCollection, *, clip: float = 5.0, name_key: str | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not clip > 0:
            raise ValueError(f"clip must be above 0 (in standard deviations), got {clip}")
        self.clip, self.name_key = clip, name_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            name, image = item_name(data, key, self.name_key), result[key].to(torch.float32, copy=True)
            bad = int((~torch.isfinite(image)).sum())
            if bad:
                raise DataError(f"{name} holds {bad} NaN or infinite voxels; repair it or leave it out")
            voxels = image.as_tensor() if isinstance(image, MetaTensor) else image
            told = [self._normalize(series, f"{name}, series {number} of {len(voxels)},") for number, series in enumerate(voxels, 1)]
            if isinstance(image, MetaTensor):
                image.meta["series_mean"], image.meta["series_std"] = torch.tensor(told).T
                image.meta["unit_size"] = image.meta["series_std"]
            result[key] = image
        return result

    def _normalize(self, series: torch.Tensor, name: str) -> tuple[float, float]:
        """Change ``series`` in place; its mean and standard deviation before."""
        inside = series != 0
        values = series[inside].double()
        if len(values) == 0 or bool(values.min() == values.max()):
            raise DataError(f"{name} holds nothing but one value; fetch it again or leave it out")
        mean, std = values.mean(), values.std(correction=0)
        series[inside] = ((values - mean) / std).clamp(-self.clip, self.clip).to(series)
        return float(mean), float(std)
