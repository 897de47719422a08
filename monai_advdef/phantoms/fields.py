"""Random fields the phantoms are drawn with: smooth noise, cell patterns, antialiased strokes.

Every function takes the generator it draws from and gives float32 arrays ``(height, width)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Shape = tuple[int, int]


def smooth_noise(rng: np.random.Generator, shape: Shape, scale: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation about 1 whose features are ``scale`` pixels wide: bicubic value noise."""
    rows, columns = (math.ceil(length / scale) + 3 for length in shape)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    top, left = rng.uniform(0, 1, 2)
    box = (1 + left, 1 + top, 1 + left + shape[1] / scale, 1 + top + shape[0] / scale)
    field = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(field) * np.float32(1.35)


def fractal_noise(rng: np.random.Generator, shape: Shape, scale: float, *, octaves: int = 3, gain: float = 0.6) -> np.ndarray:
    """Sum of ``octaves`` smooth noises, each half as wide and ``gain`` times as strong as the last; standard deviation about 1."""
    weights = gain ** np.arange(octaves)
    total = sum(w * smooth_noise(rng, shape, max(scale / 2**i, 1.0)) for i, w in enumerate(weights))
    return (total / np.linalg.norm(weights)).astype(np.float32)


def cells(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest seed, and to the border between the two nearest, over a jittered staggered lattice.

    After Worley, "A cellular texture basis function" (SIGGRAPH 1996), with the lattice searched in a 3x3 neighbourhood.
    ``y`` and ``x`` are the (possibly warped) pixel coordinates; both distances are in units of ``spacing``.
    """
    v, u = (y - y.min()) / spacing + 2, (x - x.min()) / spacing + 2
    rows, columns = int(v.max()) + 3, int(u.max()) + 4
    seeds = rng.uniform(0.15, 0.85, (2, rows, columns)).astype(np.float32)
    seeds[0] += np.arange(rows, dtype=np.float32)[:, None]
    seeds[1] += np.arange(columns, dtype=np.float32)[None, :] + 0.5 * (np.arange(rows, dtype=np.float32)[:, None] % 2)
    row = v.astype(np.intp)
    first = np.full(y.shape, np.inf, dtype=np.float32)
    second = first.copy()
    for down in (-1, 0, 1):
        column = (u - 0.5 * ((row + down) % 2)).astype(np.intp)
        for right in (-1, 0, 1):
            index = (row + down) * columns + column + right
            distance = np.square(seeds[0].take(index) - v) + np.square(seeds[1].take(index) - u)
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
    first, second = np.sqrt(first), np.sqrt(second)
    return first, (second - first) / 2


def strokes(shape: Shape, curves: Iterable[tuple[np.ndarray, float, float]], *, oversampling: int = 3) -> np.ndarray:
    """Coverage in [0, 1] of ``(points (n, 2) as x, y, width in pixels, opacity)`` curves, antialiased by oversampling."""
    height, width = shape
    canvas = Image.new("L", (width * oversampling, height * oversampling))
    pen = ImageDraw.Draw(canvas)
    for points, thickness, opacity in curves:
        path = [(float(px), float(py)) for px, py in points * oversampling]
        pen.line(path, fill=round(255 * opacity), width=max(1, round(thickness * oversampling)), joint="curve")
    small = canvas.reduce(oversampling)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def bend(start: np.ndarray, angle: float, length: float, curl: np.ndarray, *, points: int = 24) -> np.ndarray:
    """Points ``(n, 2)`` of a curve of ``length`` that starts at ``start = (x, y)`` with direction ``angle``.

    Its direction turns by ``curl[0]`` radians over the length, and the turning itself changes by ``curl[1]``.
    """
    t = np.linspace(0, 1, points)
    direction = angle + curl[0] * t + curl[1] * (t**2 - t)
    steps = length / (points - 1) * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    return start + np.cumsum(steps, axis=0) - steps[0]


@dataclass(frozen=True)
class Scene:
    """What all parts of one picture share: the generator, the pixel grid and the size of a feature."""

    rng: np.random.Generator
    shape: Shape
    y: np.ndarray
    x: np.ndarray
    unit: float
    """Pixels per 1/288 of the short side: features keep their relative size at every resolution."""

    @classmethod
    def of(cls, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
        """The scene of a picture of ``size`` (width, height) in pixels."""
        y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
        return cls(rng, (size[1], size[0]), y, x, min(size) / 288)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def noise(self, scale: float, octaves: int = 1) -> np.ndarray:
        """Fractal noise of the size of the scene; ``scale`` in units of the scene."""
        return fractal_noise(self.rng, self.shape, scale * self.unit, octaves=octaves)
