"""What cameras and skin do to photographs: dermoscopy, fundus. Images (3, H, W), red, green, blue in grey levels of sRGB.

Light is meant where light changes: sRGB is decoded before, and encoded after it (IEC 61966-2-1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import signal

from monai_advdef.corruptions.core import Array, Setting
from monai_advdef.corruptions.xray import PictureCorruption
from monai_advdef.defenses.codecs import codec_round_trip
from monai_advdef.errors import DataError

HAIRS = 32  # are drawn at random; the severity says how many of them are seen
DARK = 0.08  # of a hair, in [0, 1] of the range
FINE = 4  # times finer hairs are drawn than the image is


class PhotoCorruption(PictureCorruption):
    """A corruption of colour photographs."""

    def check_values(self, image: Array, unit: str) -> None:
        """As of every picture; and there are three colours, that differ."""
        super().check_values(image, unit)
        if len(image) != 3:
            raise DataError(self._stranger(f"three channels, and this image has {len(image)}"))
        if image.max() > image.min() and (image == image[:1]).all():
            raise DataError(self._stranger("and the three channels of this image are the same"))


def to_light(image: Array) -> Array:
    """Linear light of sRGB values in [0, 1]."""
    return np.where(image <= 0.04045, image / 12.92, ((np.maximum(image, 0) + 0.055) / 1.055) ** 2.4).astype(image.dtype)


def from_light(light: Array) -> Array:
    """The inverse of :func:`to_light`, of light cut to [0, 1]."""
    cut = np.clip(light, 0, 1)
    return np.where(cut <= 0.0031308, 12.92 * cut, 1.055 * cut ** (1 / 2.4) - 0.055).astype(light.dtype)


class Defocus(PhotoCorruption):
    """Every point is a disc."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Light spread over discs, edges mirrored.

        Raises:
            DataError: the disc is larger than the image.
        """
        weights = disc(at["radius"]).astype(image.dtype)
        reach = len(weights) // 2
        if reach >= min(image.shape[1:]):
            raise DataError(f"a disc of {at['radius']:.3g} px does not fit into {image.shape[1:]} px; take a lower severity")
        padded = np.pad(to_light(image), ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
        return from_light(signal.oaconvolve(padded, weights[None], mode="valid", axes=(1, 2)))


def disc(radius: float) -> Array:
    """(N, N) weights of a disc, each pixel by the share of it that is inside, at 8x8 points; they sum to 1."""
    reach = math.ceil(radius)
    fine = (np.arange((2 * reach + 1) * 8) + 0.5) / 8 - reach - 0.5
    inside = fine[:, None] ** 2 + fine[None] ** 2 <= max(radius, 0.25) ** 2
    share = inside.reshape(2 * reach + 1, 8, 2 * reach + 1, 8).mean((1, 3))
    return share / share.sum()


class Exposure(PhotoCorruption):
    """Twice or half the light a stop, by chance; what is too light is cut."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Light times a power of 2."""
        return from_light(to_light(image) * np.float32(2 ** (at["exposure"] * float(at.rng().choice((-1, 1))))))


class ColourCast(PhotoCorruption):
    """The camera expects daylight (6504 K) and there is the light of a black body; green stays as it is.

    Source: chromaticity of black bodies, Kim et al., US patent 7024034 (2006).
    """

    def picture(self, image: Array, at: Setting) -> Array:
        """Light of each colour times its share in the one light, by that in the other."""
        gain = white(at["light"]) / white(6504)
        return from_light(to_light(image) * (gain / gain[1]).reshape(3, 1, 1).astype(image.dtype))


XYZ_TO_SRGB = np.array([[3.2404542, -1.5371385, -0.4985314], [-0.969266, 1.8760108, 0.041556], [0.0556434, -0.2040259, 1.0572252]])


def white(kelvin: float) -> Array:
    """Linear red, green and blue of a black body, 1667 to 25000 K."""
    t = 1e3 / kelvin
    warm = (-0.2661239, -0.2343589, 0.8776956, 0.17991)
    cold = (-3.0258469, 2.1070379, 0.2226347, 0.24039)
    x = float(np.polyval(warm if kelvin <= 4000 else cold, t))
    if kelvin <= 2222:
        y = np.polyval((-1.1063814, -1.3481102, 2.18555832, -0.20219683), x)
    elif kelvin <= 4000:
        y = np.polyval((-0.9549476, -1.37418593, 2.09137015, -0.16748867), x)
    else:
        y = np.polyval((3.081758, -5.8733867, 3.75112997, -0.37001483), x)
    return np.maximum(XYZ_TO_SRGB @ np.array([x / y, 1, (1 - x - y) / y]), 1e-3)


class Vignette(PhotoCorruption):
    """Light falls with the square of the distance from the middle, in stops."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Light times the fall."""
        y, x = (np.linspace(-1, 1, n) for n in image.shape[1:])
        stops = at["fall"] * (y[:, None] ** 2 + x[None] ** 2) / 2
        return from_light(to_light(image) * (2.0**-stops).astype(image.dtype))


class Hairs(PhotoCorruption):
    """Dark curved lines of .4 to 1 % of the width; between two whole numbers the last hair is faint."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Hairs one over the other."""
        rng, out, seen = at.rng(), image, at["hairs"]
        curves = [(rng.random((3, 2)) * 1.4 - 0.2, rng.uniform(0.004, 0.01)) for _ in range(HAIRS)]
        for curve, width in curves[: math.ceil(seen)]:
            covered = hair(image.shape[1:], curve, width) * np.float32(min(seen, 1))
            out, seen = out + (DARK - out) * covered, seen - 1
        return out


def hair(shape: tuple[int, ...], curve: Array, width: float) -> Array:
    """(H, W) how much of each pixel a hair covers: a parabola by three points (3, 2), in heights and widths of the image."""
    t = np.linspace(0, 1, 40)[:, None]
    points = ((1 - t) ** 2 * curve[0] + 2 * t * (1 - t) * curve[1] + t**2 * curve[2]) * (np.array(shape) * FINE)
    canvas = Image.new("L", (shape[1] * FINE, shape[0] * FINE))
    line = [(float(x), float(y)) for y, x in points]
    ImageDraw.Draw(canvas).line(line, fill=255, width=max(round(width * max(shape) * FINE), 1))
    return np.asarray(canvas.reduce(FINE), dtype=np.float32) / 255


class Ruler(PhotoCorruption):
    """A white ruler with ticks along one of the four sides."""

    def picture(self, image: Array, at: Setting) -> Array:
        """The ruler over the image."""
        side = int(at.rng().integers(4))
        seen = np.rot90(image, side, (1, 2))  # so that the ruler lies along the first rows
        rows, length = round(at["width"] / 100 * seen.shape[1]), seen.shape[2]
        out = seen.copy()
        out[:, :rows] = 0.95
        step = max(length // 40, 2)
        for number, place in enumerate(range(0, length, step)):
            out[:, : round(rows * (0.6 if number % 5 == 0 else 0.35)), place] = 0.1
        return np.rot90(out, -side, (1, 2))


class JPEGArtefacts(PhotoCorruption):
    """A JPEG file of the stated quality, colours at half the resolution."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Out of the file."""
        grey = torch.from_numpy(np.ascontiguousarray(image * 255))[None]
        return codec_round_trip(grey, round(at["quality"]), "4:2:0", "simplejpeg")[0].numpy() / 255


class LowResolution(PhotoCorruption):
    """Fewer pixels, each the mean of what it covers, enlarged linearly."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Smaller and large again."""
        height, width = image.shape[1:]
        small = max(round(width * at["pixels"]), 1), max(round(height * at["pixels"]), 1)
        planes: list[Any] = [Image.fromarray(np.ascontiguousarray(c, dtype=np.float32)) for c in image]
        planes = [p.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BILINEAR) for p in planes]
        return np.stack([np.asarray(p) for p in planes]).astype(image.dtype)


class OtherCamera(PhotoCorruption):
    """Colours mixed as by other filters in front of the sensor, and an exponent for each channel; white and black stay."""

    def picture(self, image: Array, at: Setting) -> Array:
        """Light mixed, each channel to its power."""
        rng = at.rng()
        share, tone = at["mixing"] / 100, at["tone"] / 100
        others = rng.uniform(0, 1, (3, 3)) * (1 - np.eye(3))
        others /= others.sum(1, keepdims=True)
        mixed = np.tensordot((1 - share) * np.eye(3) + share * others, to_light(image), 1)
        power = (1 + tone) ** rng.uniform(-1, 1, (3, 1, 1))
        return from_light((np.maximum(mixed, 0) ** power).astype(image.dtype))
