"""JPEG compression as a defence: the real codec, or a differentiable model of it, in front of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_advdef.dct import block_dct, block_idct, pad_to_block
from monai_advdef.defenses.codecs import codec_round_trip
from monai_advdef.defenses.colour import chroma_in_rgb, to_ycbcr
from monai_advdef.defenses.jpeg_model import SUBSAMPLING, jpeg_round_trip, quality_tables
from monai_advdef.defenses.quantiser import Quantiser
from monai_advdef.switches import as_written

BACKENDS = ("torch", "pillow", "simplejpeg")


class JPEG(Quantiser):
    """Encode and decode every case as an 8-bit JPEG image (8-bit rounding, YCbCr of BT.601, chroma subsampling, IJG quality tables).

    Three channels are coded as RGB, any other number channel by channel as grey images. Volumes are coded slice by slice over their
    last two axes. The gradient is that of the ``"torch"`` backend whatever the backend: the rounding of the coefficients passes what
    ``surrogate`` says, that of pixels, and the clamping, pass it straight through, and everything else is exact. A smooth surrogate
    keeps a slope for every coefficient, 4 bytes each in float32; a codec's is made anew in the backward pass.

    Args:
        quality: IJG quality, 1..100.
        subsampling: ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``; only for three channels.
        backend: ``"torch"`` models the codec on the image's device; ``"pillow"`` and ``"simplejpeg"`` run libjpeg-turbo on the
            CPU. simplejpeg is the fastest of the three, but below quality 96 it encodes with libjpeg-turbo's fast, less accurate
            DCT; the model and Pillow use the accurate one.
        rounding: ``surrogate``, ``smoothness`` and ``value_range`` of `Quantiser`.

    Raises:
        ValueError: an unknown quality, subsampling or backend; see also `Quantiser`.
    """

    @as_written
    def __init__(self, *, quality: int = 85, subsampling: str = "4:2:0", backend: str = "torch", **rounding: Any) -> None:
        super().__init__(**rounding)
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
        """``JPEG(85, 4:2:0)``."""
        return f"JPEG({self.quality}, {self.subsampling})"

    def levels(self, image: Tensor) -> Tensor:
        """DCT coefficients in units of their steps, ``C / Q`` before rounding, which is where the lattice of the codec lies.

        Linear but for the level shift: pixels and YCbCr are not rounded. Differentiable.

        Args:
            image: ``(B, C, *S)`` in image units.

        Returns:
            ``(B, C, *S')``, the last two axes padded to whole blocks; of three channels Y, Cb and Cr.

        Raises:
            ValueError: three channels whose chroma is subsampled.
        """
        self._check_lattice(image)
        return _by_slice(self._levels, self.to_grey(image))

    def image_of(self, levels: Tensor, size: Sequence[int]) -> Tensor:
        """Inverse of `levels`: the image ``(B, C, *S)`` of spatial ``size``, in image units, neither clipped nor rounded.

        Raises:
            ValueError: as for `levels`.
        """
        self._check_lattice(levels)
        return self.from_grey(_by_slice(self._pixels, levels)[..., : size[-2], : size[-1]].contiguous())

    def _check_lattice(self, image: Tensor) -> None:
        if image.shape[1] == 3 and self.subsampling != "4:4:4":
            raise ValueError(
                f"levels of a colour image need subsampling '4:4:4', got {self.subsampling!r}; attack such a codec in pixels"
            )

    def _levels(self, grey: Tensor) -> Tensor:
        planes = to_ycbcr(grey) if grey.shape[1] == 3 else grey
        return block_dct(pad_to_block(planes - _shift(planes))) / self._steps(planes)

    def _pixels(self, levels: Tensor) -> Tensor:
        planes = block_idct(levels * self._steps(levels))
        planes = planes + _shift(planes)
        return planes[:, :1] + chroma_in_rgb(planes[:, 1:]) if planes.shape[1] == 3 else planes

    def _steps(self, like: Tensor) -> Tensor:
        """The step of every coefficient, ``(1, C, *S')``."""
        luminance, chrominance = (table.to(like) for table in quality_tables(self.quality))
        tables = [luminance, chrominance, chrominance] if like.shape[1] == 3 else [luminance] * like.shape[1]
        return torch.stack(tables)[None].repeat(1, 1, *(-(-n // 8) for n in like.shape[-2:]))

    def refine(self, grey: Tensor) -> Tensor:
        """Every image through the codec, a volume slice by slice."""
        return _by_slice(self._code, grey)

    def _code(self, images: Tensor) -> Tensor:
        if self.backend == "torch":
            return jpeg_round_trip(images, self.quality, self.subsampling, self.amplitude)
        return _Codec.apply(images, self)


def _by_slice(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of images ``(B, C, H, W)``; to volumes slice by slice over their last two axes."""
    if x.ndim == 4:
        return function(x)
    slices = x.transpose(1, 2)
    out = function(slices.flatten(0, 1))
    return out.view(*slices.shape[:3], *out.shape[-2:]).transpose(1, 2)


def _shift(planes: Tensor) -> Tensor:
    """JPEG's level shift of Y or grey; `to_ycbcr` centres chroma on 0 already."""
    return planes.new_tensor((128.0, 0.0, 0.0) if planes.shape[1] == 3 else (128.0,)).view(-1, 1, 1)


class _Codec(torch.autograd.Function):
    """The real codec forward; backward the gradient of its model at the same image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, defense: JPEG) -> Tensor:
        ctx.save_for_backward(images)
        ctx.model = (defense.quality, defense.subsampling, defense.amplitude)
        return codec_round_trip(images, defense.quality, defense.subsampling, defense.backend)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        with torch.enable_grad():
            copy = images.detach().requires_grad_()
            modelled = jpeg_round_trip(copy, *ctx.model)
        return torch.autograd.grad(modelled, copy, grads[0])[0], None
