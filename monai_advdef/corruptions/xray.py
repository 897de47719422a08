"""What radiography does. Images (C, H, W) in grey levels, white where little arrives at the detector, all channels the same.

What arrives is exp(-x ln 50) of the beam, x the brightness in [0, 1]: the whole grey scale is an attenuation by 50, as over a chest.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from monai_advdef.corruptions.core import Array, Corruption, Setting
from monai_advdef.errors import DataError

LATITUDE = math.log(50)  # of the grey scale
PHOTONS = 2000.0  # a pixel of .15 mm at 2.5 µGy, behind nothing, at the full exposure
SPREAD = 0.1  # standard deviation of the scatter, in widths of the image


class PictureCorruption(Corruption):
    """A corruption of a picture, of which it sees each channel in [0, 1]."""

    dimensions = (2,)

    def check_values(self, image: Array, unit: str) -> None:
        """A picture in [0, 1] is not one of 0 to 255."""
        top = float(np.max(self.value_range))
        if top >= 100 and 0 <= image.min() and image.max() <= 1 and bool((image != np.round(image)).any()):
            raise DataError(
                f"the image lies inside [0, 1] while value_range is {self.value_range} ({unit}); give value_range=(0, 1) and unit="
                "'of the range', or the image in grey levels"
            )

    def corrupt(self, image: Array, at: Setting) -> Array:
        """The picture in [0, 1], corrupted, back in its own range."""
        width = at.high - at.low
        return at.low + self.picture((image - at.low) / width, at) * width

    def picture(self, image: Array, at: Setting) -> Array:
        """What becomes of an image (C, H, W) in [0, 1]; the result may leave it."""
        raise NotImplementedError


class XRayCorruption(PictureCorruption):
    """A corruption of radiographs."""

    def check_values(self, image: Array, unit: str) -> None:
        """As of every picture; colours are of no radiograph."""
        super().check_values(image, unit)
        if not (image == image[:1]).all():
            raise DataError(self._stranger(f"and this image has {len(image)} channels that differ"))


def beam(image: Array) -> Array:
    """What arrives at the detector, of a brightness in [0, 1]: in [1/50, 1] of the beam."""
    return np.exp(-LATITUDE * image)


def brightness(arriving: Array) -> Array:
    """The inverse of :func:`beam`."""
    return -np.log(np.maximum(arriving, 1e-6)) / LATITUDE


class XRayExposure(XRayCorruption):
    """Quantum noise that fewer photons add; the display keeps the brightness.

    N photons give a noise of variance 1/N in the attenuation; what is added at the share f of the exposure is 1/(f N) - 1/N. N is
    2000 where nothing is in the beam.
    """

    def picture(self, image: Array, at: Setting) -> Array:
        """The same noise in all channels."""
        variance = (1 / at["exposure"] - 1) / (PHOTONS * beam(image))
        return image + np.sqrt(variance) / LATITUDE * at.rng().standard_normal(image.shape[1:]).astype(image.dtype)


class Scatter(XRayCorruption):
    """A share of what arrives has been scattered, and comes from all around: a Gaussian of a tenth of the width."""

    def picture(self, image: Array, at: Setting) -> Array:
        """The brightness of primary and scattered radiation."""
        primary, share = beam(image), at["scatter fraction"]
        sigma = SPREAD * max(image.shape[1:])
        scattered = np.stack([ndimage.gaussian_filter(p, sigma, mode="nearest") for p in primary])
        return brightness((1 - share) * primary + share * scattered)


class GridLines(XRayCorruption):
    """Lines along one axis, 4 to 8 pixels apart."""

    def picture(self, image: Array, at: Setting) -> Array:
        """What arrives is modulated by a cosine."""
        rng = at.rng()
        axis, period, phase = int(rng.integers(2)), rng.uniform(4, 8), rng.uniform(0, 2 * np.pi)
        place = np.arange(image.shape[1 + axis])
        wave = 1 + at["depth"] / 100 * np.cos(2 * np.pi * place / period + phase)
        shape = (-1, 1) if axis == 0 else (1, -1)
        return brightness(beam(image) * wave.reshape(shape).astype(image.dtype))


class XRayRotation(XRayCorruption):
    """The image turned about its middle, to the left or right by chance; black where nothing was. Labels turn with it."""

    moves = True

    def picture(self, image: Array, at: Setting) -> Array:
        """Interpolated linearly."""
        return ndimage.rotate(image, _angle(at), axes=(1, 2), reshape=False, order=1)

    def move(self, label: Array, at: Setting) -> Array:
        """Nearest neighbour, 0 outside."""
        return ndimage.rotate(label, _angle(at), axes=(1, 2), reshape=False, order=0)


def _angle(at: Setting) -> float:
    return at["angle"] * float(at.rng().choice((-1, 1)))


class Collimation(XRayCorruption):
    """The beam is cut at four sides, each by half to all of what is stated; black outside, and labels 0 there."""

    moves = True

    def picture(self, image: Array, at: Setting) -> Array:
        """Black outside the field."""
        return np.where(_field(image.shape[1:], at), image, np.float32(0))

    def move(self, label: Array, at: Setting) -> Array:
        """0 outside the field."""
        return np.where(_field(label.shape[1:], at), label, np.zeros((), label.dtype))


def _field(shape: tuple[int, ...], at: Setting) -> Array:
    """(H, W) where the beam is."""
    cut = at.rng().uniform(0.5, 1, (2, 2)) * at["cut"] / 100
    inside = []
    for count, (before, after) in zip(shape, cut):
        place = np.arange(count)
        inside.append((place >= round(before * count)) & (place < count - round(after * count)))
    return inside[0][:, None] & inside[1][None, :]
