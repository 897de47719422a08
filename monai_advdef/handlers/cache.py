"""Adversarial images on disk: each is crafted once, and a run that was killed goes on where it stopped."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.neighbours import check_writable, clear_leftovers, whole
from monai_advdef.switches import as_written

Kept = list[list[dict[str, Any]]]
"""Entries by case and budget, or by budget and case."""


class AdversarialCache:
    """One ``.npz`` per case, named by the digest of everything that the adversarial image depends on.

    Args:
        folder: where the files lie; made when the first is written.
    """

    @as_written
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder, self._ready = Path(folder), False

    def load(self, key: str) -> dict[str, Any] | None:
        """What was stored under ``key``; ``None`` when nothing was, or when the file was cut short.

        The first call also removes what killed processes left half written.

        Raises:
            OSError: from the first call, where the folder cannot be written.
        """
        if not self._ready:
            check_writable(cache_dir=self.folder)
            clear_leftovers(self.folder)
            self._ready = True
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None

    def store(self, key: str, **arrays: Any) -> None:
        """Write all or nothing.

        Raises:
            OSError: the file cannot be written; names the file and the remedy. What was stored before stays.
        """
        path = self.folder / f"{key}.npz"
        try:
            with whole(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot store the adversarial image ({error.strerror}); free space or point cache_dir elsewhere, then run the same "
                "command again: it goes on from here",
                str(path),
            ) from error


def recalled(
    cache: AdversarialCache | None,
    keys: Sequence[Sequence[str]],
    wanted: int,
    craft: Callable[[list[int]], Kept],
) -> Kept:
    """Of every case the first ``wanted`` of its entries: what the cache holds of them, the rest crafted and stored.

    Where one is missing the whole batch is crafted, as the first time: a part of it would go through other kernels of torch, and end
    in other digits. So a run that was killed between two files, or met a neighbour that was writing them, has the same numbers.

    Args:
        cache: ``None``: all are crafted.
        keys: of every case, one for each of its entries; none: it is not stored.
        wanted: how many are asked for.
        craft: makes all entries of the cases with these numbers: for each entry in turn one for every case.
    """
    held = [[cache.load(key) for key in own[:wanted]] if cache is not None else [] for own in keys]
    missing = [len(own) < wanted or None in own for own in held]
    for i, made in enumerate(zip(*craft(list(range(len(keys))))) if any(missing) else ()):
        if not missing[i]:
            continue
        held[i] = list(made[:wanted])
        for key, entry in zip(keys[i] if cache is not None else (), made):
            cache.store(key, **entry)  # type: ignore[union-attr]
    return held  # type: ignore[return-value]
