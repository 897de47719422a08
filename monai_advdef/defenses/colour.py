"""RGB and YCbCr of BT.601 in full range, as JFIF 1.02 has them, and half-size chroma planes. Chroma is centred on 0."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.dct import crop_to

TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((0.0, 1.402), (-0.344136286, -0.714136286), (1.772, 0.0))  # what (Cb, Cr) adds to Y in red, green and blue


def to_ycbcr(rgb: Tensor) -> Tensor:
    """``(B, 3, *S)`` RGB grey levels to Y in 0..255 and Cb, Cr in -128..128, not rounded."""
    return torch.einsum("ij,bj...->bi...", rgb.new_tensor(TO_YCBCR), rgb)


def chroma_in_rgb(chroma: Tensor) -> Tensor:
    """What Cb and Cr, ``(B, 2, *S)``, add to Y in red, green and blue, ``(B, 3, *S)``."""
    return torch.einsum("ij,bj...->bi...", chroma.new_tensor(TO_RGB), chroma)


def halve(chroma: Tensor) -> Tensor:
    """Mean of every 2x2 square over the last two axes; an odd edge is repeated."""
    height, width = chroma.shape[-2:]
    planes = functional.pad(chroma.reshape(-1, 1, height, width), (0, width % 2, 0, height % 2), mode="replicate")
    mean = functional.avg_pool2d(planes, 2)
    return mean.view(*chroma.shape[:-2], *mean.shape[-2:])


def double(chroma: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear between pixel centres over the last two axes, cropped to ``size = (H, W)``."""
    planes = chroma.reshape(-1, 1, *chroma.shape[-2:])
    smooth = functional.interpolate(planes, scale_factor=2.0, mode="bilinear", align_corners=False)
    return crop_to(smooth, size).reshape(*chroma.shape[:-2], *size)
