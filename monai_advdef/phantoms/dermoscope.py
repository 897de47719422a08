"""What a dermoscope adds to skin: light and lens, hair pressed flat, contact fluid, a printed scale, the sensor."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.fields import Scene, bend, strokes

# white balances met in practice: neutral, warm, pink, lilac, blue
BALANCES = ((1.00, 1.00, 1.00), (1.04, 0.98, 0.86), (1.05, 0.95, 0.98), (1.00, 0.93, 1.09), (0.90, 1.00, 1.13))
BALANCE_SHARE = (0.30, 0.32, 0.18, 0.14, 0.06)


def illumination(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Light per colour ``(height, width, 3)``, and where the lens lets the skin be seen at all."""
    rng, (height, width) = scene.rng, scene.shape
    off_x = (scene.x - width * (0.5 + rng.uniform(-0.04, 0.04))) / (width / 2)
    off_y = (scene.y - height * (0.5 + rng.uniform(-0.05, 0.05))) / (width / 2)
    distance = np.hypot(off_x, off_y)
    slope = rng.normal(0, 0.05, 2)
    level = 1 + slope[0] * off_x + slope[1] * off_y - rng.uniform(0.02, 0.22) * distance**2 + 0.03 * scene.noise(130)
    tube: np.ndarray = np.ones(scene.shape, dtype=np.float32)
    if scene.chance(0.5):
        rim, softness = rng.uniform(0.88, 1.08), rng.uniform(0.012, 0.06)
        tube = 1 / (1 + np.exp(np.clip((distance - rim) / softness, -30, 30)))
    balance = np.array(rng.choice(BALANCES, p=BALANCE_SHARE)) * rng.normal(1, 0.02, 3)
    black = rng.uniform(0.03, 0.16)
    light = (level * (black + (1 - black) * tube))[..., None] * balance
    return light.astype(np.float32), tube > 0.35


def hair(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Hairs of one person: a common direction, thickness and colour, each hair its own bend."""
    rng = scene.rng
    count = rng.poisson(rng.choice((0, 2, 7, 20), p=(0.38, 0.27, 0.23, 0.12)))
    lie, thickness, spread = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.7), rng.uniform(0.1, 0.7)
    reach = max(scene.shape)
    hairs = [
        (
            bend(
                rng.uniform(-0.15, 1.0, 2) * scene.shape[::-1],
                lie + rng.normal(0, spread),
                rng.uniform(0.15, 1.0) * reach,
                rng.normal(0, 0.6, 2),
            ),
            thickness * rng.uniform(0.7, 1.3) * scene.unit,
            rng.uniform(0.55, 1.0),
        )
        for _ in range(count)
    ]
    cover = strokes(scene.shape, hairs)[..., None]
    shade = ndimage.gaussian_filter(cover[..., 0], 1.5 * scene.unit)[..., None]
    colour = np.array([0.24, 0.15, 0.10]) * rng.uniform(0.3, 2.2)
    return picture * (1 - 0.15 * shade) * (1 - 0.92 * cover) + 0.92 * cover * colour.astype(np.float32)


def gel(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Contact fluid: bubbles with a bright and a dark rim, and scattered small reflections."""
    rng = scene.rng
    if not scene.chance(0.35):
        return picture
    bright, dark = [], []
    for _ in range(rng.poisson(5)):
        radius = rng.lognormal(math.log(4.5), 0.6) * scene.unit
        start = rng.uniform(0.05, 0.95, 2) * scene.shape[::-1]
        ring = bend(
            start, rng.uniform(0, 6.3), 2 * math.pi * radius, 2 * math.pi * np.array([rng.uniform(0.85, 1.05), rng.normal(0, 0.16)])
        )
        bright.append((ring, 0.9 * scene.unit, rng.uniform(0.3, 0.9)))
        dark.append((ring + rng.uniform(-1.2, 1.2, 2) * scene.unit, 1.1 * scene.unit, 0.35))
    sparkle = np.clip(0.7 * scene.noise(4, 3) * np.clip(scene.noise(45, 2) - 0.8, 0, None) - rng.uniform(0.7, 1.4), 0, 0.8)
    picture = picture * (1 - strokes(scene.shape, dark)[..., None])
    shine = np.clip(strokes(scene.shape, bright) + sparkle, 0, 1)[..., None]
    return picture + shine * (1 - picture)


def ruler(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """A printed millimetre scale along one edge, in one picture of eight."""
    rng, (height, width) = scene.rng, scene.shape
    if not scene.chance(0.12):
        return picture
    line, step = height * rng.choice((0.05, 0.95)), rng.uniform(9, 16) * scene.unit
    inward = 1 if line < height / 2 else -1
    ticks = [
        (np.array([[at, line], [at, line + inward * scene.unit * (14 if i % 5 == 0 else 7)]]), 1.2 * scene.unit, 0.8)
        for i, at in enumerate(np.arange(rng.uniform(0, step), width, step))
    ]
    return picture * (1 - strokes(scene.shape, ticks)[..., None])


def camera(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Exposure, optics, in-camera sharpening, sensor noise; rounded to 8 bits."""
    rng = scene.rng
    sharp = ndimage.gaussian_filter(picture, (0.6, 0.6, 0)) if scene.chance(0.6) else picture
    sharp = sharp + rng.uniform(0.0, 0.8) * (sharp - ndimage.gaussian_filter(sharp, (1.5, 1.5, 0)))
    grain = rng.normal(0, 1, (*scene.shape, 3)).astype(np.float32)
    grain = grain + 1.5 * ndimage.gaussian_filter(grain, (0.8, 0.8, 0))
    level = 255 * rng.uniform(0.92, 1.22) * sharp + rng.uniform(0.8, 3.0) * grain
    return np.clip(np.rint(level), 0, 255).astype(np.uint8)
