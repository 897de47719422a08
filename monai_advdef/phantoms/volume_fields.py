"""A grid of voxels in millimetres, and smooth random fields on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLINE_VARIANCE = 151 / 315  # of a uniform cubic B-spline sum of white noise, per axis: the integral of the squared basis function


@dataclass(frozen=True)
class Grid:
    """Voxel centres of a volume around its middle, and the generator everything in it is drawn from.

    ``x``, ``y``, ``z`` are the distances (mm) to the patient's left, back and top, shaped to be broadcast to ``shape``.
    """

    rng: np.random.Generator
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, rng: np.random.Generator, spacing: Sequence[float], field: Sequence[float]) -> Grid:
        """The grid of ``spacing`` (mm) that fills ``field`` (mm)."""
        x, y, z = (float(step) for step in spacing)
        across, along, up = (round(length / step) for length, step in zip(field, (x, y, z)))
        return cls(rng, (x, y, z), (across, along, up))

    def axes(self) -> list[np.ndarray]:
        """``x``, ``y`` and ``z`` of the voxel centres, each with two axes of length 1."""
        lines = [
            (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(s) for n, s in zip(self.shape, self.spacing)
        ]
        return [lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]]

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to RAS+ millimetres, oriented left-posterior-superior as BraTS volumes."""
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        middle = [(length - 1) / 2 * step for length, step in zip(self.shape, self.spacing)]
        affine[:3, 3] = [middle[0], middle[1], -middle[2]]
        return affine

    def noise(self, scale: float) -> np.ndarray:
        """A smooth field of mean 0 and deviation 1 whose features are ``scale`` mm wide: a cubic B-spline of white noise."""
        bases = [_spline_basis(length, step, scale, float(self.rng.uniform())) for length, step in zip(self.shape, self.spacing)]
        knots = self.rng.standard_normal([basis.shape[1] for basis in bases]).astype(np.float32)
        volume = np.tensordot(bases[0], knots, axes=(1, 0))
        volume = np.matmul(bases[1], volume)
        return np.matmul(volume, (bases[2] / np.float32(SPLINE_VARIANCE**1.5)).T)


def _spline_basis(length: int, step: float, scale: float, offset: float) -> np.ndarray:
    """Values ``(length, knots)`` of the uniform cubic B-splines, ``scale`` mm apart, at voxel centres ``step`` mm apart."""
    place = np.arange(length) * step / scale + 1 + offset
    distance = np.abs(place[:, None] - np.arange(math.ceil(place[-1]) + 2)[None, :])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
