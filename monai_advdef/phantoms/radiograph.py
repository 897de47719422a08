"""One phantom chest radiograph, its lungs and heart, and whether the patient has an infiltrate.

A patient is a set of tissues with a thickness; the picture is what a beam leaves of itself behind them (Beer-Lambert) on a film. The
numbers are chosen by eye against public radiographs. Nothing here is a picture of anybody.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.fields import Scene, bend, strokes
from monai_advdef.phantoms.radiograph_body import LEFT, RIGHT, Plate, Thorax
from monai_advdef.phantoms.radiograph_bones import bones
from monai_advdef.phantoms.radiograph_film import develop, foreign_bodies

WATER = 0.185  # attenuation of soft tissue, per cm, at about 70 keV
BONE = 1.7  # what a cm of bone attenuates more than a cm of soft tissue, in cm of soft tissue
BACKGROUND, LEFT_LUNG, RIGHT_LUNG, HEART = 0, 1, 2, 3


def finding_of(patient: np.random.Generator) -> str:
    """``"infiltrate"`` in two patients of five, else ``"normal"``; the first thing drawn of a patient."""
    return "infiltrate" if patient.random() < 0.4 else "normal"


def radiograph_case(
    patient: np.random.Generator, exposure: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A radiograph, its lungs (0 and 255) and its classes (0 to 3), all ``(height, width)`` and uint8.

    ``size`` is (width, height) in pixels. What the patient is comes from ``patient``; how the patient stands, the technique and
    what lies on the skin from ``exposure``. The classes are 0 background, 1 left lung (right in the picture), 2 right lung, 3 heart
    and great vessels where no lung is seen before or behind them.
    """
    sick = finding_of(patient) == "infiltrate"
    thorax, field = Thorax.of(patient), patient.uniform(26.5, 33.0)
    scene = Scene.of(patient, size)
    centre = (exposure.normal(0, 0.5), exposure.normal(0, 0.8))
    plate = Plate.of(scene, field, centre, exposure.normal(0, 0.02))
    depths, lungs = zip(*(thorax.lung(plate, side) for side in (LEFT, RIGHT)))
    heart = thorax.heart_thickness(plate)
    air = np.maximum(lungs[0] + lungs[1] - heart, 0.28 * (lungs[0] + lungs[1]))
    fluid = patient.uniform(0.20, 0.32) * (1 + 0.10 * scene.noise(12, 3)) + _vessels(patient, plate, thorax)
    if sick:
        fluid = fluid + _infiltrates(scene, plate, thorax)
    tissue = thorax.body(plate) - air * (1 - np.clip(fluid, 0, 0.97)) - _airways(plate, thorax) - _stomach(patient, plate, thorax)
    tissue = np.maximum(tissue + _breasts(patient, plate, thorax), 0) + BONE * bones(patient, plate, thorax)
    picture = develop(exposure, plate, WATER * tissue + foreign_bodies(exposure, plate))
    classes = np.where((heart > 1.5) & (plate.v < thorax.angle - 0.7 * thorax.domes[LEFT]), np.uint8(HEART), np.uint8(BACKGROUND))
    classes[depths[0] > 0] = LEFT_LUNG
    classes[depths[1] > 0] = RIGHT_LUNG
    lung = (classes == LEFT_LUNG) | (classes == RIGHT_LUNG)
    return picture, np.where(lung, np.uint8(255), np.uint8(0)), classes


def _vessels(rng: np.random.Generator, plate: Plate, thorax: Thorax) -> np.ndarray:
    """The share of the lung's thickness that blood vessels take up, branching out of both hila."""
    curves: list = []

    def grow(start: np.ndarray, angle: float, length: float, calibre: float) -> None:
        path = bend(start, angle, length, rng.normal(0, 0.6, 2), points=9)
        drawn = plate.pixels(path)
        for first, width in ((0, calibre), (4, 0.75 * calibre)):
            curves.append((drawn[first : first + 5], width * plate.pitch, min(1.0, 0.15 + 1.2 * width)))
        if calibre > 0.2:
            turn = rng.choice((-1, 1))
            for at in (3, 6, 8):
                turn = -turn
                grow(
                    path[at], angle + turn * rng.uniform(0.2, 0.8), length * rng.uniform(0.55, 0.85), calibre * rng.uniform(0.5, 0.7)
                )

    for side in (LEFT, RIGHT):
        hilum = np.array([side * 3.6, -0.03 * thorax.height - 0.5 * side])
        for angle in np.linspace(-1.35, 1.45, 7) + rng.normal(0, 0.12, 7):
            direction = angle if side == LEFT else math.pi - angle
            grow(hilum + rng.normal(0, 0.5, 2), direction, rng.uniform(4.0, 7.0), rng.uniform(0.3, 0.55))
    cover = ndimage.gaussian_filter(strokes(plate.scene.shape, curves, oversampling=2), 0.05 * plate.pitch)
    hila = sum(
        np.exp(-np.square((plate.u - side * 3.6) / 1.5) - np.square((plate.v + 0.03 * thorax.height + 0.5 * side) / 2.6))
        for side in (LEFT, RIGHT)
    )
    return rng.uniform(0.18, 0.36) * cover + 0.18 * hila


def _infiltrates(scene: Scene, plate: Plate, thorax: Thorax) -> np.ndarray:
    """The share of air spaces filled with fluid: one to four patches, more often low, with ragged borders."""
    rng = scene.rng
    ragged = scene.noise(40, 3)
    filled = np.zeros(scene.shape, dtype=np.float32)
    for _ in range(rng.integers(1, 5)):
        u = rng.choice((-1, 1)) * rng.uniform(0.3, 0.95) * thorax.half_width
        v = thorax.height * rng.uniform(-0.25, 0.45)
        radius = thorax.half_width * rng.uniform(0.2, 0.55)
        gap = np.hypot(plate.u - u, (plate.v - v) / rng.uniform(0.8, 1.4)) / radius
        filled = np.maximum(filled, rng.uniform(0.25, 0.8) / (1 + np.exp(np.clip(4 * (gap - 0.8) - 1.1 * ragged, -30, 30))))
    return filled * (1 + 0.2 * scene.noise(8, 2))


def _airways(plate: Plate, thorax: Thorax) -> np.ndarray:
    """Centimetres of air in the windpipe and the main bronchi."""
    carina = -0.16 * thorax.height
    below = np.clip(plate.v - carina, 0, None)
    off = np.abs(np.abs(plate.u) - 0.8 * below)
    bore = np.square(off / np.where(below > 0, np.float32(0.75), np.float32(0.95)))
    return 1.7 * np.sqrt(np.clip(1 - bore, 0, None)) * (below < 3.5) * np.clip(1 - below / 3.5, 0, 1)


def _stomach(rng: np.random.Generator, plate: Plate, thorax: Thorax) -> np.ndarray:
    """Centimetres of gas under the left dome, in about half of the patients."""
    size, here = rng.uniform(1.2, 3.2), rng.random() < 0.55
    u, below = rng.uniform(0.35, 0.6) * thorax.half_width, rng.uniform(0.3, 1.0)
    under = plate.v - thorax.diaphragm(plate.u, LEFT) - below
    shape = 1 - np.square((plate.u - u) / (1.3 * size)) - np.square(under / size)
    return here * 1.6 * size * np.sqrt(np.clip(shape, 0, None)) * np.clip(under / 0.3, 0, 1)


def _breasts(rng: np.random.Generator, plate: Plate, thorax: Thorax) -> np.ndarray:
    """Centimetres of breast tissue over the lower lungs, in about two of five patients."""
    size, here, v0 = rng.uniform(5.0, 8.0), rng.random() < 0.4, thorax.height * rng.uniform(0.12, 0.3)
    gap = np.square((np.abs(plate.u) - 0.58 * thorax.half_width) / size) + np.square((plate.v - v0) / size)
    return here * rng.uniform(1.5, 4.5) * np.sqrt(np.clip(1 - gap, 0, None)) * (1 / (1 + np.exp(1.5 * (plate.v - v0 - 0.8 * size))))
