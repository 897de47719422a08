"""Encoding and decoding pixels with libjpeg-turbo itself, through simplejpeg or Pillow."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

Bytes = npt.NDArray[np.uint8]
PIXELS = 1 << 15  # packed at a time, few enough to stay in the cache


def codec_round_trip(images: Tensor, quality: int, subsampling: str, backend: str) -> Tensor:
    """Each case of ``(B, C, H, W)`` grey levels through a JPEG file in memory: RGB if ``C`` is 3, else channel by channel in grey.

    Returns:
        a tensor of the same shape, dtype and device. RGB comes back in channels-last memory, as the codec leaves it. A case that
        holds NaN comes back as NaN, since no file can hold one.
    """
    through = _simplejpeg if backend == "simplejpeg" else _pillow
    colour = images.shape[1] == 3
    cpu = images.detach().to("cpu", torch.float32)
    out = torch.empty_like(cpu, memory_format=torch.channels_last if colour else torch.contiguous_format)
    for image, place in zip(cpu, out):
        words = pack(image) if colour else None
        if words is None and (colour or bool(image.sum().isnan())):
            place.fill_(torch.nan)
        elif words is not None:
            place.copy_(torch.from_numpy(through(rgbx(words), quality, subsampling)).permute(2, 0, 1))
        else:
            for channel, target in zip(image.clamp(0, 255).round().to(torch.uint8).numpy(), place):
                target.copy_(torch.from_numpy(through(channel, quality, subsampling)).view(target.shape))
    return out.to(images.device, images.dtype)


def pack(image: Tensor) -> Tensor | None:
    """``(3, H, W)`` grey levels, clamped and rounded, as ``(H, W)`` whole numbers R + 256 G + 65536 B; ``None`` where one is NaN.

    Arithmetic (exact in float32) on a few rows of whole planes at a time is several times faster than writing every third byte.
    """
    words = torch.empty(image.shape[1:], dtype=torch.int32)
    rows = max(1, PIXELS // image.shape[-1])
    for part, target in zip(image.split(rows, dim=1), words.split(rows)):
        red, green, blue = part.clamp(0, 255).round_()
        red.add_(green, alpha=256).add_(blue, alpha=65536)
        if bool(red.sum().isnan()):
            return None
        target.copy_(red)
    return words


def rgbx(words: Tensor) -> Bytes:
    """The words of `pack` as ``(H, W, 4)`` bytes R, G, B, 0."""
    return words.numpy().astype("<i4", copy=False).view(np.uint8).reshape(*words.shape, 4)


def _simplejpeg(pixels: Bytes, quality: int, subsampling: str) -> Bytes:
    if pixels.ndim == 2:
        return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels[..., None], quality, "GRAY", "Gray"), "GRAY")
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, quality, "RGBX", subsampling.replace(":", "")), "RGB")


def _pillow(pixels: Bytes, quality: int, subsampling: str) -> Bytes:
    size = (pixels.shape[1], pixels.shape[0])
    grey = pixels.ndim == 2
    file = io.BytesIO()
    image = Image.frombuffer("L" if grey else "RGB", size, np.ascontiguousarray(pixels), "raw", "L" if grey else "RGBX", 0, 1)
    image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(file))
