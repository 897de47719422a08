"""JPEG's lossy half as a function of tensors: what libjpeg does to the pixels, without the entropy coding that changes none of them.

The rounding of the coefficients has a smooth gradient, that of pixels and the clamping pass it straight through, everything else is
differentiated exactly. Sources: ITU-T T.81 (annex K, DCT),
JFIF 1.02 (colour), libjpeg's jcsample.c and jdsample.c (how chroma is averaged and interpolated, which way ties are rounded).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.dct import block_idct, crop_to, dct_matrix, pad_to_block
from monai_advdef.defenses.colour import chroma_in_rgb, to_ycbcr
from monai_advdef.defenses.surrogates import clamp_ste, round_ste, slope_of, straight_through

SUBSAMPLING = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}  # chroma pixels per sample, (vertical, horizontal)

# fmt: off
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # T.81 table K.1
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *(((99,) * 8,) * 4),
)  # T.81 table K.2
# fmt: on


def quality_tables(quality: int) -> tuple[Tensor, Tensor]:
    """The luminance and chrominance tables at an IJG quality, ``(8, 8)`` int64 each, as libjpeg and Pillow write them.

    Raises:
        ValueError: ``quality`` is no integer in 1..100.
    """
    if not isinstance(quality, int) or isinstance(quality, bool) or not 1 <= quality <= 100:
        raise ValueError(f"quality must lie in 1..100, got {quality!r}; 85 is a usual value")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luminance, chrominance = (((torch.tensor(base) * scale + 50) // 100).clamp(1, 255) for base in (LUMINANCE, CHROMINANCE))
    return luminance, chrominance


def jpeg_round_trip(image: Tensor, quality: int, subsampling: str, smoothness: float = 0) -> Tensor:
    """Encode and decode ``(B, C, H, W)`` grey levels; RGB if ``C`` is 3, else every channel alone as luminance.

    The gradient of the rounding of the coefficients is that of :func:`~monai_advdef.defenses.surrogates.slope_of`.
    """
    luminance, chrominance = (table.to(image) for table in quality_tables(quality))
    image = round_ste(clamp_ste(image, 0, 255))
    if image.shape[1] != 3:
        return code(image, luminance, smoothness)
    centre = image.new_tensor((0.0, 128.0, 128.0)).view(3, 1, 1)
    ycbcr = clamp_ste(round_ste(to_ycbcr(image) + centre), 0, 255)
    luma, chroma = ycbcr[:, :1], ycbcr[:, 1:]
    factors = SUBSAMPLING[subsampling]
    chroma = upsample(code(downsample(chroma, factors), chrominance, smoothness), factors, image.shape[-2:])
    colour = round_ste(chroma_in_rgb(chroma - 128))
    return clamp_ste(code(luma, luminance, smoothness) + colour, 0, 255)


def code(component: Tensor, table: Tensor, smoothness: float = 0) -> Tensor:
    """Quantise one component, ``(B, C, H, W)`` in 0..255: level shift, DCT, ``round(c / q) q``, inverse, back to 8 bits.

    As in libjpeg's integer DCT two fractional bits are kept between the row and the column pass, the coefficients are whole eighths
    before they are quantised, and halves are then rounded away from zero.
    """
    size = component.shape[-2:]
    padded = pad_to_block(component) - 128
    basis = dct_matrix(8).to(component) * math.sqrt(8)
    rows = round_ste(4 * (padded.reshape(-1, 8) @ basis.t()))
    eighths = round_ste((basis @ rows.view(-1, 8, padded.shape[-1])).view(padded.shape) / 4)
    step = table.repeat(padded.shape[-2] // 8, padded.shape[-1] // 8)
    levels = ((eighths.detach().abs() + 4 * step) / (8 * step)).floor() * eighths.detach().sign()
    slope = slope_of(eighths.detach() / (8 * step), smoothness) if smoothness and eighths.requires_grad else None
    decoded = block_idct(straight_through(eighths / 8, levels * step, slope)) + 128
    return clamp_ste(round_ste(crop_to(decoded, size)), 0, 255)


def downsample(chroma: Tensor, factors: tuple[int, int]) -> Tensor:
    """Box average, halves rounded down in even and up in odd columns; the right edge is repeated to a whole block beforehand."""
    if factors == (1, 1):
        return chroma
    vertical, horizontal = factors
    missing = (0, -chroma.shape[-1] % (8 * horizontal), 0, -chroma.shape[-2] % vertical)
    mean = functional.avg_pool2d(functional.pad(chroma, missing, mode="replicate"), factors)
    return round_ste(mean + alternate(mean, -0.125))


def upsample(chroma: Tensor, factors: tuple[int, int], size: Sequence[int]) -> Tensor:
    """libjpeg's "fancy" upsampling to ``size``: weights 3/4 and 1/4, that is bilinear between pixel centres."""
    if factors == (1, 1):
        return chroma
    samples = crop_to(chroma, [-(-n // factor) for n, factor in zip(size, factors)])
    smooth = functional.interpolate(samples, scale_factor=[float(f) for f in factors], mode="bilinear", align_corners=False)
    return round_ste(crop_to(smooth + alternate(smooth, 1 / 32 if factors == (2, 2) else -0.125), size))


def alternate(like: Tensor, first: float) -> Tensor:
    """``first, -first, first, ...`` along the columns: it breaks ties as libjpeg's alternating bias does."""
    row = like.new_full((like.shape[-1],), first)
    row[1::2] = -first
    return row
