"""The healthy part of a phantom head: which voxel is brain, and of which tissue.

Everything is an implicit surface in millimetres, warped by smooth noise; the numbers are chosen by eye against public MRI. Nothing
here is a picture of anybody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.volume_fields import Grid

CSF, GREY, WHITE = range(3)


@dataclass(frozen=True)
class Head:
    """``brain`` (boolean), ``tissue`` (CSF, GREY or WHITE inside the brain) and ``depth`` below the surface of the brain in mm."""

    brain: np.ndarray
    tissue: np.ndarray
    depth: np.ndarray


def draw_head(grid: Grid, centre: np.ndarray, push: float, reach: float) -> Head:
    """A skull-stripped head, whose tissue is pushed ``push`` mm away from ``centre`` (mm), less and less over ``reach`` mm."""
    size = grid.rng.normal(1, 0.03, 3)
    axes = [axis / np.float32(factor) for axis, factor in zip(grid.axes(), size)]
    apart = [axis - np.float32(place) for axis, place in zip(axes, centre)]
    distance = np.sqrt(sum(part**2 for part in apart)) + np.float32(1)
    shift = np.float32(push) * np.exp(-((distance / np.float32(reach)) ** 2)) / distance
    x, y, z = (axis - shift * part + 2 * grid.noise(45) for axis, part in zip(axes, apart))
    base = np.maximum(-z - 25, 0)  # the underside narrows to the brain stem
    cerebrum = _ellipsoid(x, y, z, (0, 0, 6), (66, 82, 62)) - np.float32(0.35) * base
    cerebellum = _ellipsoid(x, y, z, (0, 38, -42), (46, 30, 24))
    stem = _ellipsoid(x, y, z, (0, 10, -45), (14, 15, 34))
    depth = np.maximum(np.maximum(cerebrum, cerebellum), stem)
    folds = np.minimum(np.abs(grid.noise(11)) * 10, np.abs(grid.noise(13)) * 12)
    sulcus = folds + np.maximum(0.5 * (cerebrum - 13 - 6 * grid.noise(25)), 0)
    folia = np.abs(np.sin((z + 0.6 * y) * np.float32(0.9))) * 3 + np.maximum(cerebellum - 7, 0)
    fissure = np.abs(x + np.float32(0.6) * grid.noise(30)) + np.maximum(18 - z + 0.006 * y * y, 0)
    cortex = np.where(cerebrum > np.maximum(cerebellum, stem), np.minimum(np.minimum(cerebrum + 0.8, sulcus), fissure), depth)
    cortex = np.where(cerebellum >= np.maximum(cerebrum, stem), np.minimum(cerebellum, folia + 1), cortex)
    tissue = np.where(cortex < 1.1, CSF, np.where(cortex < 4.4, GREY, WHITE)).astype(np.uint8)
    tissue[_deep_grey(x, y, z) > 0] = GREY
    tissue[_ventricles(x, y, z) > 0] = CSF
    return Head(_largest(depth > -0.5), tissue, depth)


def _ellipsoid(x, y, z, middle, radii) -> np.ndarray:
    """About the depth in mm below the surface of an ellipsoid, negative outside."""
    terms = [((axis - np.float32(place)) / np.float32(radius)) ** 2 for axis, place, radius in zip((x, y, z), middle, radii)]
    return (1 - np.sqrt(sum(terms))) * np.float32(min(radii))


def _ventricles(x, y, z) -> np.ndarray:
    """Lateral ventricles arched over the deep grey matter, with temporal horns, and the third and fourth between and below."""
    side = np.abs(x)
    arch = z - 14 + 0.008 * (y + 4) ** 2
    lateral = _ellipsoid(side - 0.12 * np.abs(y + 5), y, arch, (9, 0, 0), (6.5, 42, 7))
    horn = _ellipsoid(side - 0.3 * (20 - y), y, z, (28, 15, -14), (4, 22, 5))
    third = _ellipsoid(side, y, z, (0, 2, 2), (2, 14, 9))
    fourth = _ellipsoid(side, y, z, (0, 24, -38), (6, 6, 9))
    return np.maximum.reduce([lateral, horn, third, fourth])


def _deep_grey(x, y, z) -> np.ndarray:
    """Thalamus, lentiform and caudate nucleus of both sides."""
    side = np.abs(x)
    thalamus = _ellipsoid(side, y, z, (11, 10, 2), (8, 14, 9))
    lentiform = _ellipsoid(side - 0.25 * np.abs(y), y, z, (22, -6, 0), (7, 17, 9))
    caudate = _ellipsoid(side, y, z, (13, -20, 8), (5, 12, 8))
    return np.maximum.reduce([thalamus, lentiform, caudate])


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask, without holes."""
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(mask)
