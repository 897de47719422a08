"""What a fundus camera adds to a retina: the round field with its notch, uneven light through the pupil, haze and colour casts."""

from __future__ import annotations

import numpy as np

from monai_advdef.phantoms.fields import Scene

CASTS = ((1.00, 1.00, 1.00), (1.12, 0.95, 0.80), (0.92, 1.06, 0.90), (1.25, 0.88, 0.95), (0.97, 1.00, 1.25))
CAST_SHARE = (0.40, 0.25, 0.12, 0.13, 0.10)


def field_of_view(scene: Scene) -> tuple[np.ndarray, float]:
    """How much of each pixel the round field covers, in [0, 1], and the radius of the field in pixels.

    The circle fills the width (and the frame cuts it above and below), or fits into the frame; some cameras have a notch at its
    upper right.
    """
    rng, (height, width) = scene.rng, scene.shape
    radius = 0.5 * width * rng.uniform(0.96, 1.0) if scene.chance(0.7) else 0.5 * min(height, width) * rng.uniform(0.95, 0.995)
    off_x, off_y = scene.x - width / 2 + rng.normal(0, 0.004) * width, scene.y - height / 2 + rng.normal(0, 0.004) * height
    depth = radius - np.hypot(off_x, off_y)
    if scene.chance(0.6):
        along, across = (off_x - off_y) / np.sqrt(2), (off_x + off_y) / np.sqrt(2)
        tab = np.minimum(radius * rng.uniform(1.03, 1.06) - along, radius * rng.uniform(0.03, 0.05) - np.abs(across))
        depth = np.maximum(depth, np.where(along > 0, tab, depth))
    return np.clip(depth / (0.8 * scene.unit) + 0.5, 0, 1).astype(np.float32), float(radius)


def illumination(scene: Scene, picture: np.ndarray, inside: np.ndarray, radius: float, disc: tuple[float, float]) -> np.ndarray:
    """The picture ``(height, width, 3)`` under the light of the camera, black outside the field."""
    rng, (height, width) = scene.rng, scene.shape
    off_x, off_y = (scene.x - width / 2) / radius, (scene.y - height / 2) / radius
    distance = np.hypot(off_x, off_y)
    turn = rng.uniform(0, 2 * np.pi)
    shade = np.clip(off_x * np.cos(turn) + off_y * np.sin(turn) + rng.uniform(-0.3, 0.4), 0, None)
    bright = np.exp(-(np.square(scene.x - disc[0]) + np.square(scene.y - disc[1])) / np.square(rng.uniform(0.5, 0.9) * radius))
    level = 1 - rng.uniform(0.0, 0.35) * distance**2 - rng.uniform(0.0, 0.9) * shade + rng.uniform(0.0, 0.25) * bright
    level = np.clip(level + 0.04 * scene.noise(110), 0.08, None) * np.exp(rng.normal(0, 0.12))
    cast = np.array(rng.choice(CASTS, p=CAST_SHARE)) * rng.normal(1, 0.03, 3)
    lit = picture * level[..., None] * cast
    haze = rng.uniform(0.0, 0.10) * np.clip(0.5 + 0.7 * scene.noise(120), 0, 1.5) + rng.uniform(0.0, 0.12) * distance**6
    lit = lit + np.clip(haze, 0, 1)[..., None] * (np.array([0.42, 0.38, 0.28]) * rng.normal(1, 0.15, 3) - lit)
    black = np.array([0.015, 0.012, 0.014]) * rng.uniform(0.3, 1.5)
    return (black + inside[..., None] * (lit - black)).astype(np.float32)
