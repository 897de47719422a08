"""Small images of each modality, with their unit's values: what the tests of corruptions share."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_advdef.corruptions import KINDS, SEVERITIES

SPACING = 1.5
SHAPES = {"MRI": (2, 40, 60, 21), "CT": (1, 40, 60, 31), "x-ray": (1, 60, 48), "photo": (3, 60, 48)}


def clouds(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Structures of many sizes, in [-1, 1]."""
    made = sum(s * ndimage.gaussian_filter(rng.standard_normal(shape), s, mode="wrap") * s ** (len(shape) / 2) for s in (0.5, 2, 8))
    return made / np.abs(made).max()


def image(modality: str, seed: int = 0) -> np.ndarray:
    """An image (C, \\*S) of a modality, float32; of pictures whole numbers."""
    rng = np.random.default_rng(seed)
    channels, *size = SHAPES[modality]
    structure = np.stack([clouds(tuple(size), rng) for _ in range(channels)])
    grid = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in size[:2])]
    inside = (sum(g**2 for g in grid) < 0.6).reshape(size[:2] + [1] * (len(size) - 2))
    if modality == "MRI":
        return ((150 + 100 * structure) * inside).astype(np.float32)
    if modality == "CT":
        return np.where(inside, 50 + 100 * structure, -1000.0).astype(np.float32)
    return np.round(130 + 100 * structure + np.arange(channels)[:, None, None] * 10).astype(np.float32)


def of_name(name: str) -> np.ndarray:
    """An image that the corruption is for."""
    return image(SEVERITIES[name].modality)


def corrupted(name: str, severity: float = 3, **options) -> np.ndarray:
    """That image after the corruption."""
    return KINDS[name](severity=severity, spacing=SPACING, **options)(of_name(name))
