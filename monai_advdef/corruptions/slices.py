"""Thicker slices, and slices in other places: linear maps along the last axis, the slice axis of MRI and CT alike."""

from __future__ import annotations

import math

import numpy as np

from monai_advdef.corruptions.core import Array
from monai_advdef.errors import DataError


def check_extent(length: int, spacing: float, needed: float, what: str, name: str) -> None:
    """Refuse an axis that is shorter than what acts along it.

    Raises:
        DataError: with both lengths in mm.
    """
    if length * spacing < needed:
        raise DataError(
            f"{name} of {needed:.3g} mm acts along {what}, and the image has {length} of {spacing:.3g} mm, {length * spacing:.3g} "
            "mm in all; give the whole volume, or a lower severity"
        )


def thicken(image: Array, spacing: float, thickness: float) -> Array:
    """(C, H, W, D) as if slices of ``thickness`` mm had been acquired side by side and interpolated to the grid, linearly.

    Args:
        spacing: between the slices, in mm; a thickness below it changes nothing.
    """
    if thickness <= spacing:
        return image
    return image @ thickening(image.shape[-1], thickness / spacing).T.astype(image.dtype)


def thickening(length: int, ratio: float) -> Array:
    """(D, D) weights of :func:`thicken`: every row sums to 1; ``ratio`` is the new thickness in old slices."""
    count = math.ceil(length / ratio)  # the outermost may reach beyond the volume
    centres = (length - 1) / 2 + ratio * (np.arange(count) - (count - 1) / 2)  # in slices
    edges = np.arange(length + 1) - 0.5
    covered = np.minimum(edges[1:], centres[:, None] + ratio / 2) - np.maximum(edges[:-1], centres[:, None] - ratio / 2)
    mean = np.clip(covered, 0, None)
    mean /= mean.sum(1, keepdims=True)
    return linear(np.interp(np.arange(length), centres, np.arange(count)), count) @ mean


def linear(positions: Array, length: int) -> Array:
    """(N, length) weights that read ``length`` values at ``positions`` (N,), between them linearly, beyond the ends the last."""
    inside = np.clip(positions, 0, length - 1)
    lower = np.minimum(inside.astype(int), max(length - 2, 0))
    weights = np.zeros((len(inside), length))
    rows, share = np.arange(len(inside)), inside - lower
    weights[rows, lower] = 1 - share
    weights[rows, np.minimum(lower + 1, length - 1)] += share
    return weights
