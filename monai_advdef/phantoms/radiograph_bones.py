"""The bones of a phantom chest: how many centimetres of bone a ray crosses, from ribs, clavicles, shoulder girdle and spine."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.fields import strokes
from monai_advdef.phantoms.radiograph_body import LEFT, RIGHT, Plate, Thorax

PAIRS = 11  # of ribs; the twelfth lies below the diaphragm


def bones(rng: np.random.Generator, plate: Plate, thorax: Thorax) -> np.ndarray:
    """Centimetres of bone along the ray, ``(height, width)``."""
    rear, front = _ribs(rng, thorax)
    density = rng.uniform(0.6, 1.5)
    total = density * _tubes(plate, rear) + 0.75 * density * _tubes(plate, front + _clavicles(rng, thorax))
    total += _scapulae(rng, plate, thorax) + _spine(rng, plate)
    return ndimage.gaussian_filter(total, 0.06 * plate.pitch)


def _ribs(rng: np.random.Generator, thorax: Thorax) -> tuple[list, list]:
    """Rear and front arcs as (points in cm, width in cm): rings around the chest that hang down towards the front."""
    gap, first = 0.86 * thorax.height / PAIRS, -0.47 * thorax.height
    hang, lift, width = rng.uniform(4.5, 8.0), rng.uniform(0.4, 1.3), rng.uniform(0.85, 1.2)
    rear, front = [], []
    for k in range(PAIRS):
        for side in (LEFT, RIGHT):
            angle = np.linspace(0.05, 0.86 if k < 7 else 0.66, 24) * math.pi
            drop = hang * (0.45 + 0.055 * k)
            v = first + gap * k + drop * (1 - np.cos(angle)) / 2 - lift * np.sin(2 * angle) + rng.normal(0, 0.12)
            reach = thorax.outer(np.maximum(v, 1.5 - 0.46 * thorax.height)) + 0.45
            points = np.stack([side * reach * np.sin(angle) ** 0.85, v], axis=1)
            behind = angle <= 0.55 * math.pi
            rear.append((points[behind], width * rng.uniform(0.9, 1.1)))
            front.append((points[~behind], 1.1 * width * rng.uniform(0.9, 1.1)))
    return rear, front


def _clavicles(rng: np.random.Generator, thorax: Thorax) -> list:
    inner, outer = -0.36 * thorax.height + rng.normal(0, 0.6), -0.44 * thorax.height - rng.uniform(0.0, 2.5)
    curves = []
    for side in (LEFT, RIGHT):
        t = np.linspace(0, 1, 16)
        u = 1.7 + t * (thorax.half_width + 1.5)
        v = inner + (outer - inner) * t**0.8 - rng.uniform(0.3, 0.9) * np.sin(2 * math.pi * t) + rng.normal(0, 0.3)
        curves.append((np.stack([side * u, v], axis=1), rng.uniform(1.1, 1.5)))
    return curves


def _tubes(plate: Plate, curves: list) -> np.ndarray:
    """Hollow bones seen from outside: the rims are thicker along the ray than the middle."""
    pens = [
        (plate.pixels(points), share * width * plate.pitch, opacity)
        for points, width in curves
        for share, opacity in ((1.0, 1.0), (0.66, 0.6))
    ]
    return strokes(plate.scene.shape, pens, oversampling=2)


def _scapulae(rng: np.random.Generator, plate: Plate, thorax: Thorax) -> np.ndarray:
    """Shoulder blades beside the lungs and the heads of the upper arms."""
    u, v = np.abs(plate.u), plate.v
    top, edge = -0.40 * thorax.height, thorax.half_width * rng.uniform(0.86, 1.08)
    blade = np.minimum(np.minimum(u - edge + 0.22 * (v - top), v - top + 1), top + 12 - v - 1.2 * (u - edge))
    head = np.square(u - thorax.half_width - 5.2) + np.square(v - top)
    ball = 1.3 * np.sqrt(np.clip(1 - head / 2.3**2, 0, None))
    shaft_u = thorax.half_width + 5.6 + 0.2 * (v - top)
    shaft = np.clip(1 - np.square((u - shaft_u) / 1.1), 0, None) ** 0.5 * (v > top)
    return rng.uniform(0.2, 0.5) * np.clip(blade / 0.4, 0, 1) + np.maximum(ball, 1.1 * shaft)


def _spine(rng: np.random.Generator, plate: Plate) -> np.ndarray:
    """Vertebral bodies with the discs between them, larger downwards, and their processes; some spines are curved."""
    tall = rng.uniform(2.2, 2.6)
    middle = rng.normal(0, 0.35) * np.cos(0.12 * plate.v + rng.uniform(0, 6.3))
    width = 1.6 + 0.022 * (plate.v + 12)
    phase = np.abs(np.mod(plate.v / tall + rng.random(), 1) - 0.5)
    column = np.clip(1 - ((plate.u - middle) / width) ** 4, 0, None)
    process = np.exp(-np.square((plate.u - middle) / 0.35) - np.square((phase - 0.1) / 0.16))
    return rng.uniform(0.8, 1.5) * (column * (1 - 0.3 * np.clip((phase - 0.34) / 0.1, 0, 1)) + 0.35 * process)
