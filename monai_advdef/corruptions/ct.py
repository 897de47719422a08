"""What CT scanners and patients do. Images in HU: (C, H, W) or (C, H, W, D) with slices along the last axis, that of the body."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft, ndimage, special

from monai_advdef.corruptions.core import Array, Corruption, Setting
from monai_advdef.corruptions.slices import check_extent, linear, thicken
from monai_advdef.errors import DataError

FULL_DOSE_NOISE = 10.0  # HU, standard deviation of the noise that an image of the full dose is taken to have
NARROWEST = 25.0  # HU: a CT image that spans less is none in HU
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
BODY = -200.0  # HU, above which there is tissue
CLIP, REACH, AT, RAYS = 3.0, 10.0, 10.0, 9  # mm: of the metal, along the body, where streaks are as stated; pairs of streaks
METAL = 3000.0  # HU
BREATH = 120.0  # mm of table movement in a breath: 4 s at 30 mm/s


class CTCorruption(Corruption):
    """A corruption of images in HU."""

    own_range = (-1024.0, 3071.0)

    def check_values(self, image: Array, unit: str) -> None:
        """Values that span no more than a few HU are in another unit."""
        low, high = float(image.min()), float(image.max())
        if 0 < high - low < NARROWEST:
            raise DataError(
                f"the image spans [{low:g}, {high:g}], too little for HU; give the image before it is scaled or standardised"
            )


class Dose(CTCorruption):
    """Noise that a lower tube current adds: of variance (1/f - 1) · 10² HU² at the share f of the dose.

    An approximation of noise in the sinogram, made in the image: Gaussian, the same everywhere in a slice, other slices independent;
    its power spectrum is that of filtered back-projection, a ramp under a Hann window.

    Source: variance by dose, Brooks and Di Chiro, Med Phys 3 (1976); spectrum, Riederer et al., Phys Med Biol 23 (1978).
    """

    def corrupt(self, image: Array, at: Setting) -> Array:
        """The image and the noise."""
        sd = FULL_DOSE_NOISE * math.sqrt(1 / at["dose"] - 1)
        white = at.rng().standard_normal(image.shape, dtype=np.float32)
        spectrum = fft.rfft2(white, axes=(1, 2))
        gain = noise_gain(image.shape[1:3]).astype(np.float32)
        spectrum *= gain.reshape(1, *gain.shape, *[1] * (image.ndim - 3))
        return image + sd * fft.irfft2(spectrum, s=image.shape[1:3], axes=(1, 2))


def noise_gain(shape: tuple[int, ...]) -> Array:
    """(H, W // 2 + 1) by which the spectrum of white noise is multiplied: ramp under a Hann window, variance kept."""
    radius = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    power = radius * (0.5 + 0.5 * np.cos(2 * np.pi * np.minimum(radius, 0.5))) ** 2
    twice = np.full(power.shape[1], 2.0)  # columns that stand for two
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    return np.sqrt(power * shape[0] * shape[1] / (power * twice).sum())


class Kernel(CTCorruption):
    """A Gaussian in the slice."""

    needs_spacing = True

    def corrupt(self, image: Array, at: Setting) -> Array:
        """Smoothed by the Gaussian of discrete scale space, which has its width however narrow it is; edges repeated.

        Raises:
            DataError: a slice is narrower than the kernel.
        """
        out = image
        for axis in (0, 1):
            check_extent(image.shape[axis + 1], at.spacing[axis], at["width"], f"axis {axis} of the slice", type(self).__name__)
            variance = (at["width"] / FWHM / at.spacing[axis]) ** 2
            reach = np.arange(-math.ceil(6 * math.sqrt(variance)) - 2, math.ceil(6 * math.sqrt(variance)) + 3)
            weights = special.ive(reach, variance)  # which sum to 1
            out = ndimage.correlate1d(out, weights, axis + 1, mode="nearest")
        return out


class CTSliceThickness(CTCorruption):
    """Thicker slices side by side, interpolated linearly to the grid; a thickness below the image's own changes nothing."""

    needs_spacing = True
    dimensions = (3,)

    def corrupt(self, image: Array, at: Setting) -> Array:
        """Along the last axis.

        Raises:
            DataError: all slices together are thinner.
        """
        check_extent(image.shape[-1], at.spacing[-1], at["thickness"], "the slices", type(self).__name__)
        return thicken(image, at.spacing[-1], at["thickness"])


class CalibrationShift(CTCorruption):
    """Every value is off by so many HU, up or down by chance; air, at the end of the range, stays within it."""

    def corrupt(self, image: Array, at: Setting) -> Array:
        """Shifted."""
        return image + at["shift"] * at.rng().choice((-1, 1))


class MetalStreaks(CTCorruption):
    """A clip of 3 mm somewhere in the body, and light and dark streaks that start at it in its slices.

    Streaks fall with the distance, are as stated at 10 mm (and not higher nearer by), and fade within some 10 mm along the body. No
    simulation of beam hardening: the pattern is ours.
    """

    needs_spacing = True

    def corrupt(self, image: Array, at: Setting) -> Array:
        """The image with clip and streaks."""
        rng = at.rng()
        body = np.flatnonzero(image[0] > BODY)
        start, turn = rng.random(), rng.uniform(0, 2 * np.pi)
        if not len(body):
            return image
        middle = np.unravel_index(body[int(start * len(body))], image.shape[1:])
        away = [(np.arange(n) - m) * s for n, m, s in zip(image.shape[1:], middle, at.spacing)]
        y, x = away[0][:, None], away[1][None, :]
        radius = np.hypot(y, x)
        star = np.sin(RAYS * np.arctan2(y, x) + turn) * AT / np.maximum(radius, AT)
        clip = radius <= max(CLIP, *at.spacing[:2])
        if image.ndim == 4:
            fade = np.exp(-0.5 * (away[2] / REACH) ** 2)
            star, clip = star[..., None] * fade, clip[..., None] & (np.abs(away[2]) <= max(CLIP, at.spacing[2]))
        added = image + (at["streaks"] * star).astype(image.dtype)
        return np.where(clip, METAL, added) if at["streaks"] > 0 else added


class Breathing(CTCorruption):
    """Slices come from higher or lower places of the body, along a sine of 120 mm (4 s of breath at a table speed of 30 mm/s)."""

    needs_spacing = True
    moves = True
    dimensions = (3,)

    def corrupt(self, image: Array, at: Setting) -> Array:
        """Interpolated linearly between slices; beyond the ends the last slice.

        Raises:
            DataError: the volume is shorter than the way of the movement.
        """
        check_extent(image.shape[-1], at.spacing[-1], 2 * at["amplitude"], "the slices", type(self).__name__)
        return image @ linear(_breath(image.shape[-1], at), image.shape[-1]).T.astype(image.dtype)

    def move(self, label: Array, at: Setting) -> Array:
        """The nearest slice."""
        places = np.clip(np.round(_breath(label.shape[-1], at)), 0, label.shape[-1] - 1).astype(int)
        return label[..., places]


def _breath(length: int, at: Setting) -> Array:
    """The places, in slices, from which the slices come."""
    phase = at.rng().uniform(0, 2 * np.pi)
    z = np.arange(length) * at.spacing[-1]
    return (z + at["amplitude"] * np.sin(2 * np.pi * z / BREATH + phase)) / at.spacing[-1]
