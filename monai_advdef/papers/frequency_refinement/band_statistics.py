"""The band statistics behind Frequency Refinement's table: fitted once, ranked, and named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.defenses import fit_band_statistics, save_band_statistics
from monai_advdef.defenses.bands import ACCURATE, PRIMARY, read_table, zigzag
from monai_advdef.switches import as_written

BANDS = ("PD", "AC", "GD")
"""Primary, accurate and general features: ranks 1-3, 4-15 and 16-64 (paper 000, section 3.2)."""


@as_written
def fitted_band_statistics(path: str | os.PathLike[str], images: Iterable[Any]) -> str:
    """The path of the band statistics of the training images, fitted and written there if they are missing.

    Args:
        path: JSON file of :func:`monai_advdef.defenses.save_band_statistics`.
        images: benign training images (C, H, W) in grey levels; read only if the file is missing.
    """
    if not Path(path).exists():
        save_band_statistics(fit_band_statistics(images), path)
    return str(path)


@as_written
def read_band_std(path: str | os.PathLike[str]) -> np.ndarray:
    """8x8 standard deviations in grey levels.

    Raises:
        ValueError: the file is missing or holds no table.
    """
    return read_table(path, "band_std").numpy()


def band_ranks(std: np.ndarray) -> np.ndarray:
    """Rank 1..64 of every band by falling standard deviation (8, 8); ties go to the lower zig-zag index."""
    order = np.lexsort((zigzag(len(std)).numpy().ravel(), -std.ravel()))
    ranks = np.empty(std.size, dtype=int)
    ranks[order] = np.arange(1, std.size + 1)
    return ranks.reshape(std.shape)


def band_group(ranks: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for ranks of PD, AC and GD."""
    return (ranks > PRIMARY).astype(int) + (ranks > PRIMARY + ACCURATE)


def band_name(across: int, down: int) -> str:
    """``(u, v)`` as half waves across and down the picture; MONAI's first spatial axis runs across."""
    if across == down == 0:
        return "DC"
    said = [f"{n} half wave{'s' * (n > 1)} {way}" for n, way in ((across, "across"), (down, "down")) if n]
    return f"({across},{down}), " + " and ".join(said)


def top_bands(std: np.ndarray, number: int = PRIMARY) -> list[str]:
    """Names of the bands with the largest standard deviations, the largest first."""
    ranks = band_ranks(std)
    places = [tuple(int(i) for i in np.argwhere(ranks == r)[0]) for r in range(1, number + 1)]
    return [band_name(*place) for place in places]
