"""What the X-ray room adds to a chest: beam, scatter, lead letters, cables, quantum noise, film curve and shutters."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from monai_advdef.phantoms.fields import bend, strokes
from monai_advdef.phantoms.radiograph_body import Plate

LETTERS = {
    "L": np.array([[0.0, 0.0], [0.0, 1.0], [0.6, 1.0]]),
    "R": np.array(
        [[0.0, 1.0], [0.0, 0.0], [0.45, 0.0], [0.6, 0.13], [0.6, 0.4], [0.45, 0.52], [0.0, 0.52], [0.25, 0.52], [0.6, 1.0]]
    ),
}


def foreign_bodies(rng: np.random.Generator, plate: Plate) -> np.ndarray:
    """Optical density of a lead letter that tells the side, of monitoring cables and of a tube."""
    height, width = plate.scene.shape
    density = np.zeros(plate.scene.shape, dtype=np.float32)
    if rng.random() < 0.75:
        letter, at = ("L", 0.93) if rng.random() < 0.6 else ("R", 0.04)
        tall = rng.uniform(0.035, 0.06) * height
        points = LETTERS[letter] * tall + np.array([at * width - (letter == "L") * 0.3 * tall, rng.uniform(0.03, 0.3) * height])
        density += 5.0 * strokes(plate.scene.shape, [(points, 0.16 * tall, 1.0)])
    if rng.random() < 0.3:
        wires, discs = [], []
        for _ in range(rng.integers(1, 5)):
            start = np.array([rng.choice((-1, 1)) * rng.uniform(5, 12), rng.uniform(-9, 11)])
            away = math.atan2(rng.uniform(-0.5, 1.5), start[0]) + rng.normal(0, 0.4)
            wires.append((plate.pixels(bend(start, away, rng.uniform(12, 30), rng.normal(0, 1.0, 2))), 0.18 * plate.pitch, 0.8))
            discs.append((plate.pixels(bend(start, 0.0, 2.2, np.array([6.28, 0.0]))), 0.45 * plate.pitch, 1.0))
        density += rng.uniform(0.3, 0.9) * np.maximum(strokes(plate.scene.shape, wires), strokes(plate.scene.shape, discs))
    if rng.random() < 0.15:
        line = bend(np.array([rng.normal(0, 0.5), -20.0]), 1.57, rng.uniform(18, 34), rng.normal(0, 0.15, 2))
        density += 0.4 * strokes(plate.scene.shape, [(plate.pixels(line), 0.3 * plate.pitch, 1.0)])
    return density


def develop(rng: np.random.Generator, plate: Plate, density: np.ndarray) -> np.ndarray:
    """The 8-bit picture ``(height, width)`` of a chest with this optical density (the line integral of attenuation).

    Exponential loss of the beam, scatter as a blurred share of what arrives, quantum noise, then a sigmoid in the logarithm of the
    exposure (the curve of Hurter and Driffield), shown inverted as on a light box.
    """
    primary = np.exp(-density)
    arrived = primary + rng.uniform(0.05, 0.35) * _blurred(primary, 2.5 * plate.pitch)
    arrived = ndimage.gaussian_filter(arrived, rng.uniform(0.3, 1.0) * plate.scene.unit)
    quanta = rng.lognormal(math.log(4e4), 0.6)
    grain = rng.standard_normal(arrived.shape, dtype=np.float32)
    exposure = np.log(np.clip(arrived + np.sqrt(arrived / quanta) * grain, 1e-4, None))
    chest = exposure[(np.abs(plate.u) < 12) & (np.abs(plate.v) < 10)]
    low, high = np.quantile(chest, (0.04, 0.96))
    middle = low + (high - low) * rng.uniform(0.35, 0.85)
    steepness = rng.uniform(2.2, 4.6) / (high - low)
    shown = 1 / (1 + np.exp(np.clip(steepness * (exposure - middle), -30, 30)))
    if rng.random() < 0.5:
        shown = shown + rng.uniform(0.2, 0.7) * (shown - _blurred(shown, 0.8 * plate.pitch))
    black, white = rng.uniform(0.0, 0.12), rng.uniform(0.86, 1.05)
    level = 255 * (black + (white - black) * shown) + rng.normal(0, 1.0) * grain
    return np.clip(np.rint(_shutters(rng, level)), 0, 255).astype(np.uint8)


def _blurred(field: np.ndarray, sigma: float) -> np.ndarray:
    """A wide Gaussian blur, computed on a coarser grid."""
    step = max(1, int(sigma / 4))
    shape = field.shape
    coarse = Image.fromarray(field.astype(np.float32)).reduce(step)
    smooth = Image.fromarray(ndimage.gaussian_filter(np.asarray(coarse), sigma / step, mode="nearest"))
    return np.asarray(smooth.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _shutters(rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """Black margins where the beam was collimated or the picture was padded, in one picture of three."""
    if rng.random() > 0.33:
        return level
    height, width = level.shape
    left, right, top, bottom = rng.uniform(0, 0.035, 4) * (rng.random(4) < 0.6)
    out = np.zeros_like(level)
    rows = slice(round(top * height), height - round(bottom * height))
    columns = slice(round(left * width), width - round(right * width))
    out[rows, columns] = level[rows, columns]
    return out
