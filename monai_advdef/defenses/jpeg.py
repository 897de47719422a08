"""JPEG compression as a defence: the real codec, or a differentiable model of it, in front of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_advdef.defenses.codecs import codec_round_trip
from monai_advdef.defenses.core import Defense
from monai_advdef.defenses.jpeg_model import SUBSAMPLING, jpeg_round_trip, quality_tables

BACKENDS = ("torch", "pillow", "simplejpeg")


class JPEG(Defense):
    """Encode and decode every case as an 8-bit JPEG image (8-bit rounding, YCbCr of BT.601, chroma subsampling, IJG quality tables).

    Three channels are coded as RGB, any other number channel by channel as grey images. Volumes are coded slice by slice over their
    last two axes. The gradient is that of the ``"torch"`` backend whatever the backend: straight through every rounding and
    clamping, exact for everything else.

    Args:
        quality: IJG quality, 1..100.
        subsampling: ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``; only for three channels.
        backend: ``"torch"`` models the codec on the image's device; ``"pillow"`` and ``"simplejpeg"`` run libjpeg-turbo on the
            CPU. simplejpeg is the fastest of the three, but below quality 96 it encodes with libjpeg-turbo's fast, less accurate
            DCT; the model and Pillow use the accurate one.
        value_range: image units of grey levels 0 and 255.

    Raises:
        ValueError: an unknown quality, subsampling or backend.
    """

    def __init__(
        self, *, quality: int = 85, subsampling: str = "4:2:0", backend: str = "torch", value_range: Sequence[float] = (0, 255)
    ) -> None:
        super().__init__(value_range=value_range)
        quality_tables(quality)
        if subsampling not in SUBSAMPLING:
            raise ValueError(
                f"subsampling must be one of {', '.join(SUBSAMPLING)}, got {subsampling!r}; 4:2:0 is what most encoders write"
            )
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}; simplejpeg is the fastest")
        self.quality, self.subsampling, self.backend = quality, subsampling, backend

    @property
    def label(self) -> str:
        return f"JPEG({self.quality}, {self.subsampling})"

    def refine(self, grey: Tensor) -> Tensor:
        if grey.ndim == 4:
            return self._code(grey)
        slices = grey.transpose(1, 2)
        return self._code(slices.flatten(0, 1)).view(slices.shape).transpose(1, 2)

    def _code(self, images: Tensor) -> Tensor:
        if self.backend == "torch":
            return jpeg_round_trip(images, self.quality, self.subsampling)
        return _Codec.apply(images, self)


class _Codec(torch.autograd.Function):
    """The real codec forward; backward the gradient of its model at the same image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, defense: JPEG) -> Tensor:
        ctx.save_for_backward(images)
        ctx.defense = defense
        return codec_round_trip(images, defense.quality, defense.subsampling, defense.backend)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        with torch.enable_grad():
            copy = images.detach().requires_grad_()
            modelled = jpeg_round_trip(copy, ctx.defense.quality, ctx.defense.subsampling)
        return torch.autograd.grad(modelled, copy, grads[0])[0], None
