"""Dictionary twins of the array transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform

from monai_advdef.switches import as_written
from monai_advdef.transforms.array import DCTFrequencyRefinement, DefenseTransform, JPEGCompression


class DefenseTransformd(MapTransform):
    """Apply a `DefenseTransform` to the images under ``keys``; the other entries are passed on."""

    backend = DefenseTransform.backend

    @as_written
    def __init__(self, keys: KeysCollection, transform: DefenseTransform, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out


class JPEGCompressiond(DefenseTransformd):
    """Dictionary twin of `JPEGCompression`; takes its keyword arguments after ``keys``."""

    @as_written
    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, JPEGCompression(**kwargs), allow_missing_keys)


class DCTFrequencyRefinementd(DefenseTransformd):
    """Dictionary twin of `DCTFrequencyRefinement`; takes its keyword arguments after ``keys``."""

    @as_written
    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, DCTFrequencyRefinement(**kwargs), allow_missing_keys)


JPEGCompressionD = JPEGCompressionDict = JPEGCompressiond
DCTFrequencyRefinementD = DCTFrequencyRefinementDict = DCTFrequencyRefinementd
