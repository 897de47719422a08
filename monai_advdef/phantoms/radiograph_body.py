"""The soft parts of a phantom chest: how many centimetres of tissue and of lung a ray crosses on its way to the detector.

Coordinates are centimetres in the plane of the detector, as on a light box: ``u`` to the right (the patient's left), ``v`` down,
from the midline at half the height of the chest. ``side`` is 1 for the left lung (right in the picture) and -1 for the right lung.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monai_advdef.phantoms.fields import Scene

LEFT, RIGHT = 1, -1
LOWEST = 0.48  # where the costophrenic angles lie below the middle, as a share of the height of the chest


@dataclass(frozen=True)
class Plate:
    """The detector: a scene whose pixels have a place in the patient's coordinates."""

    scene: Scene
    u: np.ndarray
    v: np.ndarray
    pitch: float
    """Pixels per centimetre."""
    origin: tuple[float, float]
    turn: float

    @classmethod
    def of(cls, scene: Scene, field: float, centre: tuple[float, float], turn: float) -> Plate:
        """A plate whose short side covers ``field`` cm, the patient ``centre`` cm off its middle and turned by ``turn`` radians."""
        height, width = scene.shape
        pitch = min(scene.shape) / field
        x, y = width / 2 + centre[0] * pitch, height / 2 + centre[1] * pitch
        right, down = (scene.x - np.float32(x)) / np.float32(pitch), (scene.y - np.float32(y)) / np.float32(pitch)
        cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
        return cls(scene, cos * right + sin * down, cos * down - sin * right, pitch, (x, y), turn)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Pixel coordinates (x, y) of ``points`` ``(n, 2)`` in cm."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return np.array(self.origin) + self.pitch * points @ np.array([[cos, sin], [-sin, cos]])


@dataclass(frozen=True)
class Thorax:
    """The measures of one patient, in cm."""

    half_width: float
    """From the midline to the outermost lung."""
    height: float
    """From the costophrenic angles to the apices."""
    taper: float
    domes: dict[int, float]
    """How high each half of the diaphragm stands above the costophrenic angle; the liver lifts the right one."""
    depth: float
    """Of the body, from front to back."""
    fat: float
    heart: tuple[float, float, float, float, float]
    """Centre, half axes, tilt."""
    waves: dict[int, tuple[float, float, float]]
    """Small irregularities in the outline of each lung: amplitude, radians per cm, phase."""

    @classmethod
    def of(cls, rng: np.random.Generator) -> Thorax:
        """A random patient, in centimetres."""
        half_width, height = rng.uniform(11.5, 14.2), rng.uniform(20.0, 26.0)
        size = rng.uniform(0.88, 1.22) * half_width / 13
        left_dome = rng.uniform(2.2, 5.0)
        long, short = size * rng.uniform(5.6, 6.8), size * rng.uniform(4.0, 4.9)
        low = LOWEST * height - left_dome - rng.uniform(0.55, 0.8) * short
        heart = (rng.uniform(1.6, 3.0), low, long, short, rng.uniform(0.3, 0.75))
        return cls(
            half_width,
            height,
            rng.uniform(0.05, 0.25),
            {LEFT: left_dome, RIGHT: left_dome + rng.uniform(0.4, 2.2)},
            rng.uniform(19.0, 25.0),
            rng.uniform(0.8, 3.5),
            heart,
            {side: (rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.9), rng.uniform(0, 2 * math.pi)) for side in (LEFT, RIGHT)},
        )

    @property
    def angle(self) -> float:
        """The level of the costophrenic angles."""
        return LOWEST * self.height

    def outer(self, v: np.ndarray) -> np.ndarray:
        """Half the inner width of the rib cage at level ``v``."""
        t = np.clip((self.angle - v) / self.height, 0, 1)
        return self.half_width * (1 - self.taper * t) * np.sqrt(1 - np.square(t * t))

    def inner(self, v: np.ndarray, side: int) -> np.ndarray:
        """Where the lung ends towards the midline: at great vessels and right atrium; at the aorta, behind the heart."""
        t = np.clip((self.angle - v) / self.height, 0, 1)
        edge = 1.9 + 22 * np.clip(t - 0.8, 0, None) ** 2
        if side == RIGHT:
            return edge + 0.4 * self.heart[3] * np.exp(-np.square((v - self.heart[1]) / 4.2))
        return edge + 1.1 * np.exp(-np.square((v + 0.22 * self.height) / 1.7)) + 0.5 * np.exp(-np.square((v - 5) / 5))

    def diaphragm(self, m: np.ndarray, side: int) -> np.ndarray:
        """The level of the dome at ``m`` cm from the midline."""
        centre, rise = 0.46 * self.half_width, self.domes[side]
        across = (m - centre) / (self.half_width - centre)
        lateral, medial = np.clip(across, 0, None), np.clip(-across, 0, None)
        return self.angle - rise * (1 - lateral * lateral) + 0.45 * rise * medial * medial

    def lung(self, plate: Plate, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Depth into the outline of a lung (negative outside), and its thickness along the ray before the heart is put in, in cm."""
        m, v = side * plate.u, plate.v
        amplitude, frequency, phase = self.waves[side]
        ripple = amplitude * np.sin(frequency * v + phase)
        edges = (self.outer(v) - m + ripple, m - self.inner(v, side) + 0.6 * ripple, self.diaphragm(m, side) - v)
        depth = _blended(_blended(edges[0], edges[1], 2.0), edges[2], 1.6)
        top = np.clip((self.angle - v) / self.height, 0, 1)
        profile = 0.70 * self.depth * (1 - 0.45 * top)
        thickness = profile * _round(edges[0], 4.5) * _round(edges[1], 1.4) * _round(edges[2], 1.8) * np.clip(depth / 0.12, 0, 1)
        return depth, thickness

    def heart_thickness(self, plate: Plate) -> np.ndarray:
        """Centimetres of heart, great vessels and aortic arch along the ray."""
        u0, v0, a, b, tilt = self.heart
        du, dv = plate.u - u0, plate.v - v0
        along, across = du * math.cos(tilt) + dv * math.sin(tilt), dv * math.cos(tilt) - du * math.sin(tilt)
        muscle = 2 * b * np.sqrt(np.clip(1 - np.square(along / a) - np.square(across / b), 0, None))
        knob = np.square(plate.u - 1.9) + np.square(plate.v + 0.22 * self.height)
        trunk = np.clip(1 - np.square(plate.u / 2.4), 0, None) * (plate.v > -0.28 * self.height) * (plate.v < v0)
        return np.maximum(muscle, np.maximum(2 * np.sqrt(np.clip(1.7**2 - knob, 0, None)), 6 * np.sqrt(trunk)))

    def body(self, plate: Plate) -> np.ndarray:
        """Centimetres of body along the ray, as if it were solid: trunk, shoulders, neck, upper arms."""
        u, v = np.abs(plate.u), plate.v
        wall = self.half_width + 1.6 + self.fat
        level = np.clip((v + 0.30 * self.height) / (0.25 * self.height), -1, 0)
        trunk = self.depth * (1 - np.clip(u / (wall * (1 + 0.10 * level)), 0, 1) ** 4) ** 0.5
        trunk = trunk * np.clip((v + 0.64 * self.height) / 6, 0, 1) ** 0.5 * (1 + 0.12 * np.clip((v - 0.2 * self.height) / 8, 0, 1))
        shoulder = -0.40 * self.height
        arm = self.half_width + 6.5
        parts = (
            trunk,
            _capsule(u, v, (0, shoulder - 9), (0, shoulder), 6.4),
            _capsule(u, v, (0, shoulder - 2.0), (arm - 1, shoulder + 1.5), 6.0),
            _capsule(u, v, (arm - 1, shoulder + 1.5), (arm + 3, shoulder + 20), 4.8 + 0.4 * self.fat),
        )
        return np.sqrt(np.sqrt(sum(np.square(np.square(part)) for part in parts)))


def _blended(one: np.ndarray, other: np.ndarray, reach: float) -> np.ndarray:
    """The smaller of two depths, with the corner between them rounded where they differ by less than ``reach``."""
    near = np.clip(1 - np.abs(one - other) / reach, 0, None)
    return np.minimum(one, other) - reach / 4 * near * near


def _round(depth: np.ndarray, radius: float) -> np.ndarray:
    """The share of its full thickness that a body with a round edge of this radius has at ``depth``, in [0, 1]."""
    return np.sqrt(1 - np.square(1 - np.clip(depth / radius, 0, 1)))


def _capsule(u: np.ndarray, v: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float) -> np.ndarray:
    """The thickness of a round limb around a segment."""
    du, dv = end[0] - start[0], end[1] - start[1]
    t = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0, 1)
    gap = np.square(u - start[0] - t * du) + np.square(v - start[1] - t * dv)
    return 2 * np.sqrt(np.clip(radius**2 - gap, 0, None))
