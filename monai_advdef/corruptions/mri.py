"""What MRI scanners and patients do. Images: (C, H, W) or (C, H, W, D), a channel per series, slices along the last axis of volumes.

Scanners give magnitudes, 0 where there is no signal (unit "signal"). Of images that preprocessing has standardised ("σ": 0 outside
the head, negative values inside), the lowest value of a series inside the head is taken for no signal; what lies outside stays 0,
and mean and standard deviation of the series are set again to what they were, as the same preprocessing would. Phase is encoded
along the second axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from scipy import fft, ndimage

from monai_advdef.corruptions.core import Array, Corruption, Setting
from monai_advdef.corruptions.slices import check_extent, thicken
from monai_advdef.errors import DataError

PHASE = 1  # the axis of a series (H, W) or (H, W, D) along which k-space is filled line by line
SIGMA = ("σ", "sigma")
WIDEST = 100.0  # standard deviations: no standardised image spans more


class MRICorruption(Corruption):
    """A corruption of each series by itself; subclasses say what happens to a magnitude image."""

    own_range = (-math.inf, math.inf)

    def unit_of(self, image: Array) -> str:
        """``"σ"`` where there are negative values, else ``"signal"``."""
        return "σ" if image.min() < 0 else "signal"

    def check_values(self, image: Array, unit: str) -> None:
        """Magnitudes are not negative, and standardised values not large."""
        if unit not in SIGMA and image.min() < 0:
            raise DataError(
                f"an image in {unit} is a magnitude, and this one goes down to {image.min():g}; give unit='σ' if it is "
                "standardised, or the image as the scanner gave it"
            )
        if unit in SIGMA and image.max() - image.min() > WIDEST:
            raise DataError(
                f"an image in {unit} does not span [{image.min():g}, {image.max():g}]; give unit='signal' if it is as the scanner "
                "gave it, or standardise it"
            )

    def corrupt(self, image: Array, at: Setting) -> Array:
        """Each series in turn, as magnitudes; draws follow one another."""
        rng = at.rng()
        standardised = at.unit in SIGMA
        return np.stack([_standardised(s, self, at, rng) if standardised else self.series(s, at, rng) for s in image])

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """One series (H, W) or (H, W, D), not negative."""
        raise NotImplementedError


def _standardised(series: Array, how: MRICorruption, at: Setting, rng: np.random.Generator) -> Array:
    """A series in σ by way of magnitudes, and back."""
    inside = series != 0
    if not inside.any():
        return series
    values = series[inside].astype(float)
    zero = values.min()
    made = how.series(np.where(inside, series - zero, 0).astype(series.dtype), at, rng)[inside].astype(float)
    spread = made.std()
    made = (made - made.mean()) * (values.std() / spread) + values.mean() if spread > 0 else made + zero
    out = np.zeros_like(series)
    out[inside] = made
    return out


class RigidMotion(MRICorruption):
    """The head moves between five poses while the lines of k-space are filled one after the other.

    The pose in which the centre of k-space is acquired is that of the image, so labels stay. Each of the four others is off by at
    most the stated translation and rotation about each axis (in 2D: in the plane). The magnitude of the result is taken.
    """

    needs_spacing = True

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """Lines of the moved images' spectra, put together."""
        lines, dims = magnitude.shape[PHASE], magnitude.ndim
        cuts = (lines * rng.uniform((0.05, 0.25, 0.55, 0.75), (0.25, 0.45, 0.75, 0.95))).astype(int)
        which = np.searchsorted(cuts, np.arange(lines), side="right")
        order = np.fft.ifftshift(which)  # the centre of k-space in the middle of the acquisition
        spectrum = fft.fft(magnitude, axis=PHASE)
        for pose in (0, 1, 3, 4):
            offset = at["translation"] * rng.uniform(-1, 1, dims)
            angles = np.deg2rad(at["rotation"]) * rng.uniform(-1, 1, 3 if dims == 3 else 1)
            lines_of = np.flatnonzero(order == pose)
            moved = fft.fft(posed(magnitude, at.spacing, offset, angles), axis=PHASE)
            spectrum[:, lines_of] = moved[:, lines_of]
        return np.abs(fft.ifft(spectrum, axis=PHASE)).astype(magnitude.dtype)


def posed(image: Array, spacing: tuple[float, ...], offset: Array, angles: Array) -> Array:
    """An image turned about its middle by ``angles`` (radians; one in 2D, about each axis in 3D) and moved by ``offset`` mm."""
    size = np.asarray(spacing)
    turn = rotation(angles)
    matrix = turn.T * size / size[:, None]  # from where a voxel is to where it came from, in voxels
    middle = (np.array(image.shape) - 1) / 2
    start = middle - matrix @ (middle + offset / size)
    return ndimage.affine_transform(image, matrix, start, order=1)


def rotation(angles: Array) -> Array:
    """The rotation matrix of one angle in the plane, or of three, about the first, second and third axis in turn."""
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    made: Array = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[one, two], [one, two]] = math.cos(angle)
        turn[one, two], turn[two, one] = -math.sin(angle), math.sin(angle)
        made = turn @ made
    return made


class Ghosting(MRICorruption):
    """Every second to fifth line of k-space but the central one is weaker, so that the object appears again along the phase axis."""

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """The same lines of each slice."""
        period, lines = int(rng.integers(2, 6)), magnitude.shape[PHASE]
        gain = np.ones(lines, magnitude.dtype)
        gain[period::period] = 1 - at["weakening"] / 100  # line 0 is the centre of k-space
        shape = [1] * magnitude.ndim
        shape[PHASE] = lines
        spectrum = fft.fft(magnitude, axis=PHASE)
        spectrum *= gain.reshape(shape)
        return np.abs(fft.ifft(spectrum, axis=PHASE)).astype(magnitude.dtype)


class Spikes(MRICorruption):
    """One point of k-space, a tenth to four tenths of the way to its edge, is too high: a wave of that height is added."""

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """The magnitude of image and wave, which is complex."""
        place = rng.uniform(0.05, 0.2, magnitude.ndim) * rng.choice((-1, 1), magnitude.ndim)  # cycles a voxel; the edge is .5
        wave: Any = at["height"] / 100 * magnitude.mean() * np.exp(2j * np.pi * rng.random())
        for axis, (count, share) in enumerate(zip(magnitude.shape, place)):
            shape = [1] * magnitude.ndim
            shape[axis] = count
            wave = wave * np.exp(2j * np.pi * round(share * count) / count * np.arange(count)).reshape(shape)
        return np.abs(magnitude + wave).astype(magnitude.dtype)


class BiasField(MRICorruption):
    """A smooth factor from 1 - b/2 to 1 + b/2: products of Legendre polynomials up to the third degree, with random weights.

    Source: Van Leemput et al., IEEE TMI 18 (1999), of the polynomials; MONAI's RandBiasField has the exponential of the same.
    """

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """Times the factor."""
        field = smooth(magnitude.shape, rng)
        low, high = field.min(), field.max()
        slope = at["inhomogeneity"] / 100 / max(high - low, 1e-12)
        return magnitude * (1 + slope * (field - (low + high) / 2)).astype(magnitude.dtype)


def smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A random polynomial of total degree 1 to 3 on [-1, 1] along each axis."""
    weights = rng.standard_normal((4,) * len(shape))
    degree = sum(np.ogrid[tuple(slice(4) for _ in shape)])
    weights[(degree == 0) | (degree > 3)] = 0
    axes = [np.linspace(-1, 1, n) for n in shape]
    polynomial: Any = legendre.leggrid2d if len(shape) == 2 else legendre.leggrid3d
    return polynomial(*axes, weights)


class RicianNoise(MRICorruption):
    """Gaussian noise in both channels of the receiver, of which the magnitude is seen.

    Its standard deviation is the mean of the voxels with signal, lowered by the stated ratio.

    Source: Gudbjartsson and Patz, Magn Reson Med 34 (1995).
    """

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """The magnitude of image and noise."""
        signal = magnitude[magnitude > 0]
        sigma = (float(signal.mean()) if signal.size else 0.0) * 10 ** (-at["signal to noise"] / 20)
        real, imaginary = (rng.standard_normal(magnitude.shape, dtype=np.float32) for _ in range(2))
        return np.hypot(magnitude + sigma * real, sigma * imaginary).astype(magnitude.dtype)


class GibbsRinging(MRICorruption):
    """Only the middle of k-space is acquired along both axes of the slice; the rest is 0."""

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """The magnitude of what the acquired lines make."""
        spectrum = fft.fft2(magnitude, axes=(0, 1))
        for axis in (0, 1):
            away = np.abs(fft.fftfreq(magnitude.shape[axis])) * 2  # of the way to the edge of k-space
            shape = [1] * magnitude.ndim
            shape[axis] = -1
            spectrum *= (away <= at["acquired matrix"] / 100).reshape(shape)
        return np.abs(fft.ifft2(spectrum, axes=(0, 1))).astype(magnitude.dtype)


class SliceThickness(MRICorruption):
    """Thicker slices side by side, interpolated linearly to the grid; a thickness below the image's own changes nothing."""

    needs_spacing = True
    dimensions = (3,)

    def series(self, magnitude: Array, at: Setting, rng: np.random.Generator) -> Array:
        """Along the last axis.

        Raises:
            DataError: all slices together are thinner.
        """
        check_extent(magnitude.shape[-1], at.spacing[-1], at["thickness"], "the slices", type(self).__name__)
        return thicken(magnitude[None], at.spacing[-1], at["thickness"])[0]


class SeriesCorruption(Corruption):
    """A corruption of one series among several, drawn at random; the others are untouched."""

    own_range = (-math.inf, math.inf)
    unit_of = MRICorruption.unit_of
    check_values = MRICorruption.check_values

    def corrupt(self, image: Array, at: Setting) -> Array:
        """All series, one of them changed.

        Raises:
            DataError: there is only one.
        """
        if len(image) < 2:
            raise DataError(f"{type(self).__name__} takes one series of several, and the image has one; give all series")
        rng, out = at.rng(), image.copy()
        which = int(rng.integers(len(image)))
        out[which] = self.one(image[which], at, rng)
        return out

    def one(self, series: Array, at: Setting, rng: np.random.Generator) -> Array:
        """The series that was drawn."""
        raise NotImplementedError


class MissingSeries(SeriesCorruption):
    """Slices of one series are missing from one end on: they hold 0, as where there is no signal."""

    def one(self, series: Array, at: Setting, rng: np.random.Generator) -> Array:
        """Along the last axis."""
        length = series.shape[-1]
        missing = round(at["missing slices"] / 100 * length)
        out = series.copy()
        out[..., slice(length - missing, None) if rng.random() < 0.5 else slice(missing)] = 0
        return out


class MisregisteredSeries(SeriesCorruption):
    """One series is moved in a random direction; the labels, drawn on the others, stay."""

    needs_spacing = True

    def one(self, series: Array, at: Setting, rng: np.random.Generator) -> Array:
        """Interpolated linearly, 0 where nothing was imaged."""
        direction = rng.standard_normal(series.ndim)
        voxels = at["offset"] * direction / np.linalg.norm(direction) / np.asarray(at.spacing)
        return ndimage.shift(series, voxels, order=1)
