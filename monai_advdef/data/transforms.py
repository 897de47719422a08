"""Dictionary transforms between reading and use: channels, pixel values and mask values made sure of, each error naming the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["CheckPixelsd", "MaskToClassesd", "ToGreyd", "ToRGBd"]


def item_name(data: Mapping[Hashable, object], key: Hashable, name_key: str | None) -> str:
    """What an error calls the item: ``data[name_key]`` if asked for, else the file MONAI read it from, else its key."""
    if name_key is not None:
        return str(data[name_key])
    item = data[key]
    return str(item.meta.get("filename_or_obj", key)) if isinstance(item, MetaTensor) else str(key)


class _Channels(MapTransform):
    """Base of the two that settle the number of channels; alpha is dropped."""

    @as_written
    def __init__(self, keys: KeysCollection, *, name_key: str | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            channels = image.shape[0]
            if channels not in (1, 2, 3, 4):
                name = item_name(data, key, self.name_key)
                raise DataError(f"{name} has {channels} channels; an image is grey or RGB, with or without alpha, channels first")
            result[key] = self.convert(image[:1] if channels < 3 else image[:3])
        return result

    @abstractmethod
    def convert(self, image: torch.Tensor) -> torch.Tensor:
        """The image with the channels that the transform promises."""


class ToRGBd(_Channels):
    """Grey ``(1, W, H)``, grey with alpha, RGB or RGBA images to RGB ``(3, W, H)``; alpha is dropped.

    Raises:
        DataError: another number of channels, naming the file.
    """

    def convert(self, image: torch.Tensor) -> torch.Tensor:
        """Three channels (3, W, H): grey is repeated."""
        return image if image.shape[0] == 3 else image.expand(3, *image.shape[1:]).clone()


class ToGreyd(_Channels):
    """Grey, grey with alpha, RGB or RGBA images to grey ``(1, W, H)``, colour by its luma (ITU-R BT.601); alpha is dropped.

    Raises:
        DataError: another number of channels, naming the file.
    """

    def convert(self, image: torch.Tensor) -> torch.Tensor:
        """One channel (1, W, H): the luma 0.299 R + 0.587 G + 0.114 B."""
        return image if image.shape[0] == 1 else 0.299 * image[:1] + 0.587 * image[1:2] + 0.114 * image[2:]


class CheckPixelsd(MapTransform):
    """Pass images ``(C, *S)`` on unchanged if every value is finite and inside ``value_range`` (grey levels by default).

    Raises:
        DataError: NaN, infinite or out-of-range values, or other than ``channels`` channels, naming the file.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        value_range: Sequence[float] = (0.0, 255.0),
        channels: int = 3,
        name_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.low, self.high = value_range
        if not self.low < self.high:
            raise ValueError(f"value_range must be (low, high) with low < high, got {tuple(value_range)}")
        self.channels, self.name_key = channels, name_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            image, name = result[key], item_name(data, key, self.name_key)
            if image.shape[0] != self.channels:
                raise DataError(f"{name} has {image.shape[0]} channels where {self.channels} are expected; convert it first")
            bad = int((~torch.isfinite(image)).sum())
            if bad:
                raise DataError(f"{name} holds {bad} NaN or infinite values; repair or remove it")
            low, high = float(image.min()), float(image.max())
            if low < self.low or high > self.high:
                raise DataError(
                    f"{name} holds values from {low:g} to {high:g}, outside [{self.low:g}, {self.high:g}]; "
                    "rescale it, or set value_range"
                )
        return result


class MaskToClassesd(MapTransform):
    """Masks ``(1, *S)`` to class numbers 0..classes-1 of the same type: 0/255 of a two-class mask become 0/1, class numbers stay.

    Raises:
        DataError: more than one channel, or a value that is no class, naming the file.
    """

    @as_written
    def __init__(
        self, keys: KeysCollection, *, classes: int = 2, name_key: str | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if classes < 2:
            raise ValueError(f"classes must be at least 2 (background counts), got {classes}")
        self.classes, self.name_key = classes, name_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            mask, name = result[key], item_name(data, key, self.name_key)
            if mask.shape[0] != 1:
                raise DataError(f"{name} has {mask.shape[0]} channels; a mask has one: save it as 8-bit grey")
            values = mask.unique().tolist()
            if self.classes == 2 and set(values) <= {0, 255}:
                result[key] = (mask > 0).to(mask.dtype)
            elif not set(values) <= set(range(self.classes)):
                also = " (or 0 and 255)" if self.classes == 2 else ""
                odd = [f"{value:g}" for value in values if value not in range(self.classes)]
                raise DataError(
                    f"{name} holds the label {', '.join(odd[:4])}, outside the classes 0..{self.classes - 1}{also}; "
                    "correct the mask, or set classes"
                )
        return result
