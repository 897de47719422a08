"""The anatomy of a phantom abdomen: which tissue a voxel is.

Everything is an implicit surface in millimetres, warped by smooth noise; the numbers are chosen by eye against public CT. Nothing
here is a picture of anybody. Later tissues are drawn over earlier ones.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from monai_advdef.phantoms.volume_fields import Grid

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


class Tissue(IntEnum):
    """What a voxel is made of."""

    AIR, FAT, MUSCLE, LUNG, BOWEL, GAS, STOMACH, VESSEL, LIVER, SPLEEN, CORTEX, MEDULLA, PANCREAS, BONE, MARROW, TABLE = range(16)


def draw_abdomen(grid: Grid) -> np.ndarray:
    """A body on its table as :class:`Tissue` numbers (X, Y, Z) uint8, every organ of a size and place of its own."""
    rng = grid.rng
    x, y, z = grid.axes()
    size = rng.normal(1, 0.04)
    warped = tuple(axis / np.float32(size) + 3 * grid.noise(50) for axis in (x, y, z))
    width, depth = 158 * rng.normal(1, 0.03), 104 * rng.normal(1, 0.03)
    tissue = np.full(grid.shape, Tissue.AIR, np.uint8)
    edge = _rim(warped, width, depth)
    layer = rng.uniform(10, 26)  # of subcutaneous fat, mm
    tissue[edge > 0] = Tissue.FAT
    tissue[(edge > layer) & (edge < layer + 13)] = Tissue.MUSCLE
    inside = edge > layer + 13
    _draw_gut(grid, tissue, inside, warped)
    _draw_lungs(tissue, inside & (edge > layer + 16), warped)
    _draw_organs(rng, tissue, inside & (tissue != Tissue.LUNG), warped)
    _draw_spine(tissue, warped)
    tissue[np.broadcast_to(_table(x, y, depth * size + 9) > 0, grid.shape)] = Tissue.TABLE
    return tissue


def ellipsoid(axes: Axes, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """About the depth in mm below the surface of an ellipsoid, negative outside."""
    terms = [((axis - np.float32(place)) / np.float32(radius)) ** 2 for axis, place, radius in zip(axes, middle, radii)]
    return (1 - np.sqrt(sum(terms))) * np.float32(min(radii))


def _rim(axes: Axes, width: float, depth: float) -> np.ndarray:
    """About the depth in mm below the skin: a cylinder whose outline is between an ellipse and a rectangle."""
    x, y, _ = axes
    outline = (np.abs(x / np.float32(width)) ** 2.5 + np.abs(y / np.float32(depth)) ** 2.5) ** 0.4
    return (1 - outline) * np.float32(depth)


def _draw_gut(grid: Grid, tissue: np.ndarray, inside: np.ndarray, axes: Axes) -> None:
    """Loops of bowel in front and below, some with gas, and the stomach with its bubble."""
    x, y, z = axes
    loops = np.abs(grid.noise(28)) + np.maximum(y - 25, 0) / 40
    bowel = inside & (loops < 0.7)
    tissue[bowel] = Tissue.BOWEL
    tissue[bowel & (loops < 0.16) & (y < -20)] = Tissue.GAS
    stomach = ellipsoid(axes, (48, -38, 38), (44, 36, 44))
    tissue[inside & (stomach > 0)] = Tissue.STOMACH
    tissue[inside & (stomach > 4) & (y < -50)] = Tissue.GAS


def _draw_lungs(tissue: np.ndarray, inside: np.ndarray, axes: Axes) -> None:
    """The bases of both lungs above the domes of the diaphragm."""
    x, y, z = axes
    dome = 92 - ((np.abs(x) - 75) ** 2 + y**2) / 190
    tissue[inside & (z > dome) & (np.abs(x) > 30)] = Tissue.LUNG
    tissue[inside & (z > dome) & (np.abs(x) <= 30)] = Tissue.MUSCLE


def _draw_organs(rng: np.random.Generator, tissue: np.ndarray, inside: np.ndarray, axes: Axes) -> None:
    """Vessels, pancreas, spleen, kidneys with medulla and sinus, and the two lobes of the liver."""
    x, y, _ = axes
    for place, radius in (((12.0, 36.0), 10.0), ((-16.0, 34.0), 12.0)):
        tissue[inside & ((x - place[0]) ** 2 + (y - place[1]) ** 2 < radius**2)] = Tissue.VESSEL
    tissue[inside & (_pancreas(axes, rng) > 0)] = Tissue.PANCREAS
    tissue[inside & (_organ(rng, axes, (104, 32, 38), (27, 44, 46)) > 0)] = Tissue.SPLEEN
    for side in (-1, 1):
        middle = (side * 60 + rng.normal(0, 4), 42 + rng.normal(0, 4), -26 + 6 * side + rng.normal(0, 6))
        radii = tuple(float(radius) for radius in np.array([26, 24, 50]) * rng.normal(1, 0.06))
        kidney = ellipsoid(axes, middle, (radii[0], radii[1], radii[2]))
        sinus = ellipsoid(axes, (middle[0] - side * 16, middle[1] - 4, middle[2]), (15, 11, 26))
        tissue[inside & (kidney > 0)] = Tissue.CORTEX
        tissue[inside & (kidney > 7)] = Tissue.MEDULLA
        tissue[(kidney > 0) & (sinus > 0)] = Tissue.FAT
    right = _organ(rng, axes, (-72, -4, 34), (74, 78, 62))
    left = _organ(rng, axes, (-8, -52, 48), (62, 30, 28))
    free = inside & ~np.isin(tissue, (Tissue.CORTEX, Tissue.MEDULLA, Tissue.VESSEL, Tissue.SPLEEN, Tissue.PANCREAS))
    tissue[free & (np.maximum(right, left) > 0)] = Tissue.LIVER


def _organ(
    rng: np.random.Generator, axes: Axes, middle: tuple[float, float, float], radii: tuple[float, float, float]
) -> np.ndarray:
    """An ellipsoid moved by some millimetres and scaled by some per cent."""
    a, b, c = np.asarray(middle) + rng.normal(0, 4, 3)
    i, j, k = np.asarray(radii) * rng.normal(1, 0.05, 3)
    return ellipsoid(axes, (a, b, c), (i, j, k))


def _pancreas(axes: Axes, rng: np.random.Generator) -> np.ndarray:
    """A tube from the head, right of the midline, over the aorta and back to the tail at the spleen: the union of its spheres."""
    lift, thick = rng.normal(0, 4), rng.normal(1, 0.08)
    depth = np.full(np.broadcast_shapes(*(axis.shape for axis in axes)), -np.inf, np.float32)
    for t in np.linspace(0, 1, 15):
        middle = (-34 + 122 * t, 8 - 62 * t * (1 - t) * (1 - 0.2 * t) + 18 * t**2, -6 + 34 * t + lift)
        radius = (17 - 6 * t) * thick
        np.maximum(depth, ellipsoid(axes, middle, (radius, radius, radius)), out=depth)
    return depth


def _draw_spine(tissue: np.ndarray, axes: Axes) -> None:
    """Vertebral bodies with discs between them, the canal, the arch behind it, and the muscles beside."""
    x, y, z = axes
    column = 22 - np.sqrt(x**2 + ((y - 62) * 1.15) ** 2)
    beside = ellipsoid((np.abs(x), y, 0 * z), (30, 78, 0), (24, 18, 1))
    tissue[(beside > 0) & (tissue != Tissue.AIR)] = Tissue.MUSCLE
    disc = np.abs(z % 34 - 17) > 13.5
    tissue[column > 0] = Tissue.BONE
    tissue[(column > 3) & ~disc] = Tissue.MARROW
    tissue[(column > 0) & disc] = Tissue.MUSCLE
    arch = np.abs(np.sqrt(x**2 + (y - 88) ** 2) - 12) < 3.5
    tissue[(arch | ((np.abs(x) < 4) & (y > 99) & (y < 116))) & (tissue != Tissue.AIR) & ~disc] = Tissue.BONE


def _table(x: np.ndarray, y: np.ndarray, top: float) -> np.ndarray:
    """About the depth in mm below the surface of the shell of a curved table ``top`` mm behind the middle."""
    surface = np.float32(top) - (x / 30) ** 2 / 2
    return 2.5 - np.abs(y - surface) - np.maximum(np.abs(x) - 190, 0)
