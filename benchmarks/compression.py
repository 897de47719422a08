"""What the image defences cost on one 3x512x512 float32 image, on one thread, clipping and rounding included."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import interleave, one_thread, show
from monai_advdef.defenses import JPEG, FrequencyRefinement, frequency_table

SIDE, QUALITY = 512, 85


def photo_like() -> Tensor:
    """``(1, 3, 512, 512)`` smooth colours with fine grain, grey levels 0..255."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, SIDE // 16, SIDE // 16, generator=generator) * 200 + 20
    smooth = functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
    return (smooth + 8 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255)


def per_block_loop(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Frequency Refinement the way it was published: one scipy call per 8x8 block."""
    out = np.empty_like(image)
    for plane, target in zip(image[0].round(), out[0]):
        for row in range(0, plane.shape[0], 8):
            for column in range(0, plane.shape[1], 8):
                block = (slice(row, row + 8), slice(column, column + 8))
                coefficients = scipy.fft.dctn(plane[block], norm="ortho")
                target[block] = scipy.fft.idctn(np.round(coefficients / table) * table, norm="ortho")
    return out.clip(0, 255).round()


def main(*, quick: bool = False) -> None:
    rounds = 15 if quick else 40
    with one_thread(), torch.no_grad():
        image = photo_like()
        copy = torch.empty_like(image)
        defenses = {name: JPEG(quality=QUALITY, backend=name) for name in ("torch", "pillow", "simplejpeg")}
        refinement = FrequencyRefinement()
        ours: dict[str, Callable[[], Any]] = {
            "FrequencyRefinement": lambda: refinement(image),
            "JPEG, torch": lambda: defenses["torch"](image),
            "JPEG, simplejpeg": lambda: defenses["simplejpeg"](image),
            "JPEG, Pillow": lambda: defenses["pillow"](image),
        }
        title, copies = f"image defences, 1x3x{SIDE}x{SIDE}", {"copy_": lambda: copy.copy_(image), **ours}
        show(title, interleave(copies, "copy_", rounds), "copy_", {"FrequencyRefinement": "<= 11"})
        codecs = bare_codecs(image) | {name: ours[name] for name in ("JPEG, simplejpeg", "JPEG, Pillow")}
        show("real codecs", interleave(codecs, "bare simplejpeg", rounds), "bare simplejpeg", {"JPEG, simplejpeg": "<= 1.20"})
        array, table = image.numpy(), frequency_table().numpy()
        loop = {"FrequencyRefinement": ours["FrequencyRefinement"], "per-block scipy loop": lambda: per_block_loop(array, table)}
        ratios = interleave(loop, "FrequencyRefinement", rounds=7, budget_s=20)
        show("Frequency Refinement", ratios, "FrequencyRefinement", {"per-block scipy loop": ">= 50"})


def bare_codecs(image: Tensor) -> dict[str, Callable[[], Any]]:
    """simplejpeg and Pillow on the image as bytes, without anything around them."""
    pixels = np.ascontiguousarray(image[0].round().to(torch.uint8).permute(1, 2, 0).numpy())

    def pillow() -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        return np.asarray(Image.open(file))

    def direct() -> np.ndarray:
        return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, QUALITY, "RGB", "420"))

    return {"bare simplejpeg": direct, "bare Pillow": pillow}


if __name__ == "__main__":
    main()
