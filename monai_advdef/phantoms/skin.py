"""One phantom dermoscopy photograph and its lesion mask.

The picture is built as light is lost in skin (Beer-Lambert): epidermal melanin, melanin deep in the dermis (which looks blue-grey)
and blood each add an optical density, colour by colour; hair, gel and ruler lie on top; the camera adds vignette, blur and noise.
The numbers are chosen by eye against public dermoscopy images. Nothing here is a photograph of anybody.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.dermoscope import camera, gel, hair, illumination, ruler
from monai_advdef.phantoms.fields import Scene
from monai_advdef.phantoms.skin_tissue import healthy_skin, lesion_depth, lesion_pigment

# optical density per unit, for red, green and blue
EPIDERMAL_MELANIN = np.array([0.58, 0.95, 1.42], dtype=np.float32)
DEEP_MELANIN = np.array([1.15, 0.90, 0.66], dtype=np.float32)
BLOOD = np.array([0.17, 0.80, 0.70], dtype=np.float32)
HAZE = np.array([0.74, 0.74, 0.80], dtype=np.float32)


def skin_case(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture ``(height, width, 3)`` and its mask ``(height, width)`` with 0 and 255, both uint8; ``size`` is (width, height)."""
    scene = Scene.of(rng, size)
    depth = lesion_depth(scene)
    melanin, blood = healthy_skin(scene)
    extra_melanin, deep, extra_blood, haze = lesion_pigment(scene, depth)
    density = (
        (melanin + extra_melanin)[..., None] * EPIDERMAL_MELANIN
        + deep[..., None] * DEEP_MELANIN
        + (blood + extra_blood)[..., None] * BLOOD
    )
    light, visible = illumination(scene)
    picture = np.exp(-density)
    picture += haze[..., None] * (HAZE - picture)
    picture = gel(scene, picture)
    picture = ruler(scene, hair(scene, picture)) * light
    return camera(scene, picture), _annotation(scene, depth, visible)


def _annotation(scene: Scene, depth: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The mask a person would draw: the visible lesion in one piece, without holes, its line a little off in places."""
    hand = 1.2 * scene.unit * scene.noise(30)
    pieces, _ = ndimage.label((depth + hand > 0) & visible)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.where(ndimage.binary_fill_holes(pieces == largest), np.uint8(255), np.uint8(0))
