"""The vessel tree of a phantom retina: an artery and a vein along each arcade, branching as they thin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Curve = tuple[np.ndarray, float, float]

# direction (degrees from temporal, upwards positive) and curl (radians, towards the macula positive) of the four arcades
ARCADES = ((80.0, 1.0), (-80.0, 1.0), (122.0, -0.25), (-122.0, -0.25))


@dataclass(frozen=True)
class Vessels:
    """How the vessels of one eye grow: ``reach`` of an arcade and calibre of the thinnest vessel that is drawn, in pixels."""

    rng: np.random.Generator
    reach: float
    thinnest: float

    def tree(self, origin: np.ndarray, calibre: float, spread: float, temporal: int) -> list[Curve]:
        """The four arcades, and some small vessels, from about ``origin`` (x, y), as curves for :func:`strokes`.

        ``calibre`` and ``spread`` of the origin are in pixels; ``temporal`` is 1 where the macula lies to the right of the disc,
        -1 where to the left.
        """
        rng = self.rng
        trunks = [
            (
                math.radians(degrees + rng.normal(0, 14)),
                rng.uniform(0.8, 1.2),
                rng.uniform(0.75, 1.1),
                math.copysign(towards, degrees) * rng.uniform(0.5, 1.4),
            )
            for degrees, towards in ARCADES
        ]
        trunks += [
            (rng.choice((0.0, math.pi)) + rng.normal(0, 0.6), rng.uniform(0.2, 0.5), 0.4, rng.normal(0, 0.4))
            for _ in range(rng.integers(2, 6))
        ]
        curves = []
        for upwards, length, width, curl in trunks:
            start = rng.normal(0, spread, 2)
            for points, thickness, opacity in self._grow(start, -upwards, length * self.reach, width * calibre, curl):
                curves.append((origin + points * (temporal, 1), thickness, opacity))
        return curves

    def _grow(self, start: np.ndarray, angle: float, length: float, calibre: float, curl: float) -> Iterator[Curve]:
        """A vessel that wanders and thins along its way, and what branches off it: always less long and less wide."""
        rng, count = self.rng, 30
        turns = angle + curl * np.linspace(0, 1, count) + np.cumsum(rng.normal(0, 0.10, count))
        path = start + length / count * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
        faint = float(np.clip(0.35 + 0.65 * calibre / (3 * self.thinnest), 0, 1))
        for first in (0, 9, 19):
            yield path[first : first + 11], calibre * (1 - 0.02 * first), faint
        side = rng.choice((-1, 1))
        for at in np.sort(rng.integers(4, count - 3, rng.integers(1, 5))):
            thinner, side = calibre * (1 - 0.02 * at) * rng.uniform(0.4, 0.75), -side
            if thinner > self.thinnest:
                turn = side * math.radians(rng.uniform(25, 60))
                left = length * (1 - at / count)
                yield from self._grow(
                    path[at], turns[at] + turn, left * rng.uniform(0.5, 0.95), thinner, -turn * rng.uniform(0.2, 0.8)
                )
