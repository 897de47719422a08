"""Cases in memory up to a limit: a training reads each many times, an evaluation twice, whatever their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset

from monai_advdef.switches import as_written

GB = 10**9


class HeldCases(CacheDataset):
    """A data set that holds its first cases in memory, as many as fit, and reads every other one when it is asked for.

    A case is held as the transforms before the first random one leave it, so that what is drawn of it is the same, held or not.

    Args:
        data: one mapping per case.
        transform: a ``Compose``, or a list of transforms on dictionaries.
        cache_gb: how much memory held cases may take, in gigabytes (10⁹ bytes); 0 holds none, infinity all.

    Raises:
        ValueError: ``cache_gb`` is negative or no number.
    """

    @as_written
    def __init__(
        self, data: Sequence[Any], transform: Sequence[Callable] | Callable | None = None, *, cache_gb: float = 0.0
    ) -> None:
        if isinstance(cache_gb, bool) or not isinstance(cache_gb, (int, float)) or not cache_gb >= 0:
            raise ValueError(f"cache_gb must be a number of gigabytes, 0 or more, got {cache_gb!r}; 0 holds no case in memory")
        self.cache_gb = cache_gb
        super().__init__(data, transform, progress=False)

    def _fill_cache(self, indices: Iterable[int] | None = None) -> list[Any]:
        """The cases that fit, from the first on; ``cache_num`` is their number."""
        held: list[Any] = []
        room = self.cache_gb * GB if math.isfinite(self.cache_gb) else math.inf
        for index in range(self.cache_num) if indices is None else indices:
            if room <= 0:
                break
            item = self._load_cache_item(index)
            room -= size_of(item)
            if room >= 0:
                held.append(item)
        self.cache_num = len(held)
        return held


def size_of(value: Any) -> int:
    """Bytes of the tensors and arrays in a case, or in any mapping or sequence of them."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, (list, tuple)) else 0
