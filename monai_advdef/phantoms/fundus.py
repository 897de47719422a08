"""One phantom fundus photograph, its optic disc and cup, and a diagnosis tied to the cup/disc ratio.

The camera looks through the pupil at a round field of the retina: choroid and pigment below, vessels above, the disc where they
meet. The numbers are chosen by eye against public fundus photographs. Nothing here is a photograph of anybody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.dermoscope import camera
from monai_advdef.phantoms.fields import Scene, strokes
from monai_advdef.phantoms.fundus_camera import field_of_view, illumination
from monai_advdef.phantoms.fundus_vessels import Vessels

RATIO_RANGE = (0.30, 0.90)  # vertical cup/disc ratios that occur
RATIO_MIDDLE, RATIO_WIDTH = 0.65, 0.06  # glaucoma at even odds, and the logistic scale: the true ratio then has an AUC of about .9
BLOOD = np.array([0.42, 1.15, 0.75], dtype=np.float32)  # optical density of a vessel for red, green and blue


@dataclass(frozen=True)
class Eye:
    """What is known of an eye before it is photographed: its vertical cup/disc ratio and its diagnosis."""

    cup_disc_ratio: float
    diagnosis: str

    @classmethod
    def of(cls, rng: np.random.Generator) -> Eye:
        """A random eye; the larger its cup/disc ratio, the likelier glaucoma."""
        low, high = RATIO_RANGE
        ratio = low + (high - low) * float(rng.beta(2.0, 1.5))
        odds = math.exp((ratio - RATIO_MIDDLE) / RATIO_WIDTH)
        return cls(ratio, "glaucoma" if rng.random() < odds / (1 + odds) else "normal")


@dataclass(frozen=True)
class Disc:
    """Place and size of the optic disc in pixels; ``temporal`` is 1 where the macula lies to its right, -1 where to its left."""

    x: float
    y: float
    height: float
    """The vertical half axis."""
    width: float
    """The horizontal half axis."""
    temporal: int


def fundus_case(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture ``(height, width, 3)`` and the masks of disc and cup ``(height, width)`` with 0 and 255, all uint8.

    ``size`` is (width, height) in pixels. The first thing drawn from ``rng`` is the :class:`Eye`.
    """
    eye = Eye.of(rng)
    scene = Scene.of(rng, size)
    inside, radius = field_of_view(scene)
    disc = _place_disc(scene, radius)
    disc_depth, cup_depth = _outlines(scene, disc, eye.cup_disc_ratio)
    picture = _retina(scene, disc)
    picture = _disc_colours(scene, disc, picture, disc_depth, cup_depth)
    arteries, veins = _vessel_cover(scene, disc, radius)
    glow = ndimage.gaussian_filter(arteries, 0.5 * scene.unit)[..., None]
    dark = rng.uniform(0.65, 1.1)
    density = dark * (0.62 * arteries + veins)[..., None] * BLOOD
    picture = picture * np.exp(-density) + 0.03 * glow * picture
    picture = illumination(scene, picture, inside, radius, (disc.x, disc.y))
    disc_mask = disc_depth > 0
    cup_mask = (cup_depth > 0) & disc_mask
    return camera(scene, picture), np.where(disc_mask, np.uint8(255), np.uint8(0)), np.where(cup_mask, np.uint8(255), np.uint8(0))


def _place_disc(scene: Scene, radius: float) -> Disc:
    """Centred on the disc in two of three pictures, else on the macula; always wholly inside the field."""
    rng, (height, width) = scene.rng, scene.shape
    temporal = int(rng.choice((-1, 1)))
    if scene.chance(0.65):
        half, off_x, off_y = rng.uniform(0.092, 0.135), rng.normal(0, 0.07), rng.normal(0.03, 0.06)
    else:
        half, off_x, off_y = rng.uniform(0.068, 0.095), -temporal * rng.uniform(0.22, 0.36), rng.normal(0, 0.05)
    tall = half * height
    reach = radius - 1.4 * tall
    shift = np.array([off_x * 2 * radius, off_y * height])
    shift *= min(1.0, reach / max(float(np.hypot(*shift)), 1.0))
    x, y = width / 2 + shift[0], float(np.clip(height / 2 + shift[1], 1.3 * tall, height - 1.3 * tall))
    return Disc(float(np.clip(x, 1.3 * tall, width - 1.3 * tall)), y, tall, tall / rng.uniform(1.0, 1.14), temporal)


def _outlines(scene: Scene, disc: Disc, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed depth into disc and cup, in pixels: ellipses, a little uneven; the cup spares a rim on every side."""
    rng = scene.rng
    tilt = rng.normal(0, 0.12)
    dx, dy = scene.x - disc.x, scene.y - disc.y
    across, along = dx * math.cos(tilt) + dy * math.sin(tilt), dy * math.cos(tilt) - dx * math.sin(tilt)
    angle = np.arctan2(along, across)
    uneven = 1 + sum(rng.normal(0, 0.012 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    depth = disc.height * (uneven - np.hypot(across / disc.width, along / disc.height))
    cup_height, cup_width = ratio * disc.height, min(ratio / rng.uniform(0.98, 1.2), 0.92) * disc.width
    slack = 0.8 * min(disc.height - cup_height, disc.width - cup_width)
    cup_x, cup_y = disc.temporal * rng.uniform(0.0, 0.35) * slack, rng.uniform(-0.3, 0.3) * slack
    ragged = 1 + sum(rng.normal(0, 0.015 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    cup = cup_height * (ragged - np.hypot((across - cup_x) / cup_width, (along - cup_y) / cup_height))
    return depth.astype(np.float32), cup.astype(np.float32)


def _soft(depth: np.ndarray, width: float) -> np.ndarray:
    """A step at depth 0 that takes about ``width`` pixels."""
    return 1 / (1 + np.exp(-np.clip(4 * depth / width, -30, 30)))


def _retina(scene: Scene, disc: Disc) -> np.ndarray:
    """Orange-red retina ``(height, width, 3)``: pigment, the mesh of choroidal vessels where it shows through, the macula."""
    rng = scene.rng
    base = np.array([0.46, 0.20, 0.075]) * np.exp(rng.normal(0, (0.12, 0.14, 0.25)))
    pigment = 0.10 * scene.noise(70, 3) + 0.03 * scene.noise(6, 2)
    bands = np.exp(-np.square(scene.noise(14, 2) / 0.5)) - 0.45
    shows = rng.uniform(0.0, 0.4) * np.clip(0.3 + 0.8 * scene.noise(90), 0, 1.5)
    mesh = shows * ndimage.gaussian_filter(bands, 0.8 * scene.unit)
    picture = base * np.exp(-pigment[..., None] * np.array([0.8, 1.0, 1.1]) + mesh[..., None] * np.array([0.35, 0.60, 0.45]))
    away_x = scene.x - disc.x - disc.temporal * 5.0 * disc.height
    away_y = scene.y - disc.y - 0.6 * disc.height
    macula = np.exp(-(np.square(away_x) + np.square(away_y)) / (2 * np.square(rng.uniform(0.9, 1.3) * disc.height)))
    picture *= 1 - macula[..., None] * rng.uniform(0.15, 0.4) * np.array([0.7, 1.0, 0.8])
    return picture.astype(np.float32)


def _disc_colours(scene: Scene, disc: Disc, picture: np.ndarray, depth: np.ndarray, cup: np.ndarray) -> np.ndarray:
    """Disc and cup laid over the retina, with atrophy around the disc in some eyes."""
    rng = scene.rng
    halo = np.exp(-np.square(np.minimum(depth, 0) / (rng.uniform(0.8, 1.6) * disc.height)))[..., None]
    picture = picture * (1 + rng.uniform(0.0, 0.22) * halo)
    if scene.chance(0.5):
        leaning = np.cos(np.arctan2(scene.y - disc.y, disc.temporal * (scene.x - disc.x)) - rng.normal(0, 0.5))
        reach = disc.height * rng.uniform(0.08, 0.3) * (0.55 + 0.45 * leaning + 0.15 * scene.noise(20))
        atrophy = _soft(depth + reach, 3 * scene.unit)[..., None] * rng.uniform(0.3, 0.75)
        pale = picture.mean(axis=2, keepdims=True) * np.array([1.55, 1.25, 0.9]) * (1 + 0.12 * scene.noise(5, 2)[..., None])
        picture = picture + atrophy * (pale - picture)
    warm = np.exp(rng.normal(0, (0.04, 0.06, 0.12)))
    rim = np.array([0.70, 0.37, 0.16]) * warm * (1 + 0.06 * scene.noise(8, 2)[..., None])
    bottom = np.array([0.86, 0.55, 0.27]) * warm * rng.uniform(1.0, 1.15) * (1 + 0.04 * scene.noise(5, 2)[..., None])
    picture = picture + _soft(depth, rng.uniform(2.0, 6.0) * scene.unit)[..., None] * (rim - picture)
    return picture + (rng.uniform(0.85, 1.0) * _soft(cup, rng.uniform(2.5, 7.0) * scene.unit))[..., None] * (bottom - picture)


def _vessel_cover(scene: Scene, disc: Disc, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Coverage by arteries and by veins, in [0, 1]."""
    rng = scene.rng
    vessels = Vessels(rng, reach=rng.uniform(1.1, 1.4) * radius, thinnest=0.45 * scene.unit)
    calibre = rng.uniform(0.10, 0.135) * disc.height
    origin = np.array([disc.x - disc.temporal * rng.uniform(0.05, 0.3) * disc.width, disc.y + rng.normal(0, 0.08) * disc.height])
    covers = []
    for share in (0.8, 1.0):
        cover = strokes(scene.shape, vessels.tree(origin, share * calibre, 0.1 * disc.height, disc.temporal), oversampling=2)
        covers.append(ndimage.gaussian_filter(cover, 0.45 * scene.unit))
    return covers[0], covers[1]
