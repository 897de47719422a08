"""The skin of a phantom and the lesion in it, as amounts of pigment per pixel."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.fields import Scene, bend, cells, strokes

# Fitzpatrick types I to VI: melanin of the skin, and how often each is drawn
SKIN_MELANIN = (0.06, 0.13, 0.24, 0.42, 0.70, 1.00)
SKIN_SHARE = (0.19, 0.27, 0.24, 0.15, 0.10, 0.05)


def lesion_depth(scene: Scene) -> np.ndarray:
    """Signed distance-like depth into the lesion in pixels: an ellipse bent by radial harmonics, a second lobe, and warped."""
    rng, (height, width) = scene.rng, scene.shape
    fraction = float(np.clip(rng.lognormal(math.log(0.23), 0.75), 0.03, 0.75))
    radius = math.sqrt(fraction * height * width / math.pi)
    room = max(0.08, 0.26 - 0.5 * fraction)
    centre_x, centre_y = width * (0.5 + rng.uniform(-room, room)), height * (0.5 + rng.uniform(-room, room))
    warp = rng.uniform(0.04, 0.14) * radius
    dx = scene.x - centre_x + warp * scene.noise(rng.uniform(28, 60))
    dy = scene.y - centre_y + warp * scene.noise(rng.uniform(28, 60))
    turn, stretch = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1.0, 1.9))
    along = (dx * math.cos(turn) + dy * math.sin(turn)) / stretch
    across = (dy * math.cos(turn) - dx * math.sin(turn)) * stretch
    angle, distance = np.arctan2(across, along), np.hypot(across, along)
    ragged = rng.uniform(0.2, 1.0)
    harmonics = [(k, ragged * rng.normal(0, 0.13 / k**0.9), rng.uniform(0, 2 * math.pi)) for k in range(2, 10)]
    outline = 1 + sum(amplitude * np.cos(k * angle + phase) for k, amplitude, phase in harmonics)
    depth = radius * outline - distance
    if scene.chance(0.25):
        where = rng.uniform(0, 2 * math.pi)
        lobe = np.hypot(dx - 0.8 * radius * math.cos(where), dy - 0.8 * radius * math.sin(where))
        depth = np.maximum(depth, rng.uniform(0.35, 0.6) * radius - lobe)
    return depth.astype(np.float32)


def healthy_skin(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Melanin and blood of the skin around: mottling, creases, freckles, fine vessels."""
    rng = scene.rng
    base = rng.choice(SKIN_MELANIN, p=SKIN_SHARE) * rng.uniform(0.8, 1.25)
    mottle = rng.uniform(0.02, 0.10) * (0.5 + base)
    melanin = base + mottle * scene.noise(40, 4) + 0.35 * mottle * scene.noise(5, 2)
    pitch = rng.uniform(8, 15) * scene.unit
    wobble = 0.35 * pitch
    _, crease = cells(rng, scene.y + wobble * scene.noise(14), scene.x + wobble * scene.noise(14), pitch)
    melanin -= rng.uniform(0.0, 0.07) * (0.5 + base) * np.exp(-crease / 0.10)
    for _ in range(rng.poisson(rng.choice((0, 3, 8)))):
        melanin += rng.uniform(0.05, 0.30) * _spot(scene, rng.uniform(2, 7))
    blood = rng.uniform(0.04, 0.30) * (1 + 0.18 * scene.noise(60, 2))
    vessels = [
        (
            bend(
                rng.uniform(0, 1, 2) * scene.shape[::-1],
                rng.uniform(0, 6.3),
                rng.uniform(15, 70) * scene.unit,
                rng.normal(0, 1.2, 2),
            ),
            rng.uniform(0.7, 1.6) * scene.unit,
            rng.uniform(0.3, 1.0),
        )
        for _ in range(rng.poisson(5))
    ]
    blood += 0.35 * ndimage.gaussian_filter(strokes(scene.shape, vessels, oversampling=2), 0.8 * scene.unit)
    return melanin.astype(np.float32), blood.astype(np.float32)


def lesion_pigment(scene: Scene, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Epidermal melanin, deep melanin, blood and whitish haze that the lesion adds to the skin."""
    rng, unit = scene.rng, scene.unit
    web, beads = _patterns(scene)
    radius = max(float(depth.max()), 4 * unit)
    border = rng.uniform(1.5, 10.0) * unit
    fray = rng.uniform(0.1, 0.8) * border * scene.noise(9, 2) + rng.uniform(0.0, 0.7) * border * web
    inside = 1 / (1 + np.exp(-np.clip((depth + fray) / (0.5 * border), -30, 30)))
    inward = np.clip(depth / radius, 0, 1)
    amount = float(np.clip(rng.lognormal(math.log(0.55), 0.5), 0.18, 1.7))
    tone = 1 + rng.uniform(0.05, 0.35) * scene.noise(rng.uniform(20, 45), 4) + rng.uniform(-0.35, 0.6) * (inward - 0.4)
    dark = 1 / (1 + np.exp(-6 * (scene.noise(rng.uniform(25, 55), 3) - rng.uniform(0.2, 1.6))))
    texture = rng.uniform(0.0, 0.55) * web + rng.uniform(0.0, 0.6) * beads + 0.10 * scene.noise(3, 2)
    melanin = amount * inside * np.clip(tone + rng.uniform(0.2, 1.2) * dark + texture, 0.05, None)
    red = rng.uniform(0.35, 0.8) if scene.chance(0.10) else rng.uniform(0.0, 0.2)
    blood = red * inside * (1 + 0.3 * scene.noise(25, 3))
    if red > 0.3:
        melanin *= rng.uniform(0.25, 0.8)
    deep, haze = np.zeros_like(melanin), np.zeros_like(melanin)
    if scene.chance(0.20):
        veil = inside * np.clip(inward * 2, 0, 1) / (1 + np.exp(-3 * (scene.noise(45, 3) - rng.uniform(-0.4, 0.7))))
        deep, haze = rng.uniform(0.3, 1.0) * veil, rng.uniform(0.0, 0.25) * veil
        melanin = melanin * (1 - 0.45 * veil)
    if scene.chance(0.15):
        scar = np.clip(inward * 3, 0, 1) / (1 + np.exp(-4 * (scene.noise(35, 3) - rng.uniform(0.5, 1.2))))
        melanin, haze = melanin * (1 - 0.7 * scar), haze + 0.22 * scar * inside
    return melanin, deep, np.clip(blood, 0, None), haze


def _patterns(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """A pigment network (lines around holes) and globules (dark or pale beads), both about zero on average, strong in places."""
    rng = scene.rng
    pitch = rng.uniform(4.5, 9.0) * scene.unit
    bent_y, bent_x = (axis + 0.4 * pitch * scene.noise(1.6 * pitch / scene.unit) for axis in (scene.y, scene.x))
    _, border = cells(rng, bent_y, bent_x, pitch)
    patchy = np.clip(0.6 + 0.5 * scene.noise(40, 2), 0, 1.2)
    web = patchy * (1.6 * np.exp(-np.square(border / rng.uniform(0.12, 0.2))) - 0.6)
    near, _ = cells(rng, bent_x[::-1], bent_y[::-1], pitch * rng.uniform(1.1, 2.2))
    sparse = np.clip(0.9 * scene.noise(22, 2) + rng.uniform(-0.4, 0.5), 0, 1.5)
    beads = sparse * np.exp(-np.square(near / rng.uniform(0.18, 0.3))) * rng.choice((1.0, 1.0, -0.8))
    return web.astype(np.float32), beads.astype(np.float32)


def _spot(scene: Scene, radius: float, centre: np.ndarray | None = None) -> np.ndarray:
    """A soft round spot of height 1; ``radius`` in units, ``centre`` (x, y) in pixels, anywhere by default."""
    column, row = scene.rng.uniform(0, 1, 2) * scene.shape[::-1] if centre is None else centre
    reach = (radius * scene.unit) ** 2
    return np.exp(-(np.square(scene.x - column) + np.square(scene.y - row)) / reach)
