"""Frequency Refinement (FR): re-quantising the block DCT of an image with a table made for the network, not for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_advdef.dct import block_dct, block_idct, block_rows, chunks, crop_to, pad_adjoint, pad_to_block, transform_rows
from monai_advdef.defenses.bands import frequency_table, read_table, zone_table
from monai_advdef.defenses.colour import chroma_in_rgb, double, halve, to_ycbcr
from monai_advdef.defenses.quantiser import Quantiser
from monai_advdef.defenses.surrogates import SURROGATES, clamp_ste, round_ste, slope_of
from monai_advdef.switches import as_written

BLOCK = 8
COLOURS = ("rgb", "ycbcr")
SUBSAMPLING = ("4:4:4", "4:2:0")


class FrequencyRefinement(Quantiser):
    """Orthonormal 8x8 DCT-II of every block, ``round(C / Q) * Q``, inverse DCT; every channel with the same table.

    Any size and number of channels: edges are repeated up to whole blocks and cropped off again. Rounding is half to even.

    The gradient of the forward pass is zero almost everywhere. ``surrogate`` says what an attacker uses instead:

    - ``"smooth"``: every coefficient passes ``1 - a cos(2 pi C / Q)``, the slope of a smooth rounding with ``a = smoothness``:
      ``IDCT(slope * DCT(grad))``. It is large where the coefficient is about to change its level. The strongest that we know.
    - ``"band"``: the gradient passes where the coefficient survives quantisation, ``round(C / Q) != 0``, or where its step is small,
      ``Q <= surrogate_step``; elsewhere it is zero, as the output there is. ``IDCT(mask * DCT(grad))``.
    - ``"straight_through"``: every coefficient passes its gradient as it is. No stronger than an attacker who does not know the
      defence: it spends its steps in bands that are quantised to zero.
    - ``"identity"``: so does every pixel, past the colour transform and the subsampling, too.
    - ``None``: none; the output is detached.

    Pixels that are rounded, and those that are clipped, pass the gradient as it is whatever the surrogate: their step is one grey
    level, which every attack crosses. A smooth rounding of the input changes no sign of the gradient, one of the output made attacks
    weaker (by up to .006 of Dice on skin lesions). What is kept for the backward pass is a number for every coefficient, of the type
    of the image (4 bytes in float32), for ``"smooth"``, a byte for ``"band"``, else nothing.

    With ``color="ycbcr"`` the same table quantises Y, Cb and Cr of BT.601 instead of R, G and B. Y and chroma are not rounded, and
    chroma is centred on 0, so that a grey image has none. The surrogate then acts on Y, Cb and Cr (but for ``"identity"``), and the
    gradient of the colour transform and of the subsampling is exact.

    Args:
        steps: ``(QS1, QS2, QS3)``, step sizes in grey levels; used unless ``table`` holds numbers.
        table: 8x8 step sizes, ``"zones"`` for the published code's (`zone_table`), or the path of a JSON file with a table. An 8x8x8
            table makes the defence volumetric; with an 8x8 one a volume is treated slice by slice over its last two axes.
        band_std: ranks the bands, see `frequency_table`; default is the zig-zag ranking. Statistics of cubes, 8x8x8, make the
            defence volumetric (our extension).
        surrogate_step: the largest step through which ``"band"`` always passes.
        level_shift: subtracted before the transform and added after it (from Y alone in YCbCr); 0 as published, JPEG has 128.
        round_input: bring the input onto the 8-bit grid first.
        round_output: round the output to whole grey levels.
        clip: clip the output to ``value_range``.
        color: ``"rgb"``: every channel alone, whatever it means; ``"ycbcr"``: three channels, taken for RGB.
        subsampling: of chroma in YCbCr: ``"4:4:4"`` (none), or ``"4:2:0"``: the mean of every 2x2 square over the last two axes is
            quantised, then interpolated bilinearly.
        rounding: ``surrogate``, ``smoothness`` and ``value_range`` of `Quantiser`.

    Raises:
        ValueError: a step that is not positive, a table that is neither 8x8 nor 8x8x8, an unknown color or subsampling, subsampling
            without YCbCr, or both ``table`` and ``band_std``; see also `Quantiser`.
    """

    surrogates = (*SURROGATES, "band", None)

    @as_written
    def __init__(
        self,
        *,
        steps: Sequence[float] = (30, 5, 80),
        table: Any = None,
        band_std: Any = None,
        surrogate_step: float = 30,
        level_shift: float = 0,
        round_input: bool = True,
        round_output: bool = True,
        clip: bool = True,
        color: str = "rgb",
        subsampling: str = "4:4:4",
        **rounding: Any,
    ) -> None:
        super().__init__(**rounding)
        if table is not None and band_std is not None:
            raise ValueError(
                "table and band_std exclude each other, got both; drop one (band_std ranks the bands, table fixes every step)"
            )
        if color not in COLOURS:
            raise ValueError(f"color must be 'rgb' or 'ycbcr', got {color!r}; the default is 'rgb'")
        if subsampling not in SUBSAMPLING or (subsampling != "4:4:4" and color == "rgb"):
            raise ValueError(f"subsampling must be '4:4:4', or with color 'ycbcr' '4:2:0', got {subsampling!r} with color {color!r}")
        self.color, self.subsampling = color, subsampling
        self.steps, self.table, self.band_std = tuple(steps), table, band_std
        self.surrogate_step, self.level_shift = surrogate_step, level_shift
        self.round_input, self.round_output, self.clip = round_input, round_output, clip
        self.quantisation: Tensor
        self.register_buffer("quantisation", self._steps_of_bands(), persistent=False)

    def _steps_of_bands(self) -> Tensor:
        if self.table is None:
            return frequency_table(self.steps, self.band_std)
        if isinstance(self.table, str) and self.table == "zones":
            return zone_table(self.steps)
        table = read_table(self.table, "table")
        if table.shape not in ((BLOCK,) * 2, (BLOCK,) * 3) or not bool((table > 0).all()):
            raise ValueError(f"table must be 8x8 or 8x8x8 with positive steps, got shape {tuple(table.shape)}; or use 'zones'")
        return table

    @property
    def label(self) -> str:
        """``FR(30,5,80)``, with what tells it apart: zones, a table of its own, blocks of 8x8x8, YCbCr."""
        words = [",".join(f"{step:g}" for step in self.steps)]
        if self.table is not None:
            words = [*words, "zones"] if isinstance(self.table, str) and self.table == "zones" else ["table"]
        words += ["8x8x8"] if self.quantisation.ndim == 3 else []
        return f"FR({', '.join(words)})" + (f" YCbCr {self.subsampling}" if self.color == "ycbcr" else "")

    def levels(self, image: Tensor) -> Tensor:
        """Coefficients in units of their steps, ``C / Q`` before rounding, which is where the lattice of the defence lies.

        Linear but for the level shift: the input is not rounded. Differentiable.

        Args:
            image: ``(B, C, *S)`` in image units.

        Returns:
            ``(B, C, *S')``, the axes that are transformed padded to whole blocks, coefficients in the layout of `block_dct`.

        Raises:
            ValueError: the defence quantises YCbCr; cubes of an image without depth.
        """
        self._check_lattice()
        grey = self.to_grey(image)
        padded = pad_to_block(self._planes(grey, self.quantisation), BLOCK)
        coefficients = block_dct(padded - self.level_shift, BLOCK) / tiled(self.quantisation, padded)
        return coefficients.view(*grey.shape[: -self.quantisation.ndim], *padded.shape[2:])

    def image_of(self, levels: Tensor, size: Sequence[int]) -> Tensor:
        """Inverse of `levels`: the image ``(B, C, *S)`` of spatial ``size``, in image units, neither clipped nor rounded.

        Raises:
            ValueError: as for `levels`.
        """
        self._check_lattice()
        planes = self._planes(levels, self.quantisation)
        pixels = block_idct(planes * tiled(self.quantisation, planes), BLOCK) + self.level_shift
        return self.from_grey(crop_to(pixels.view(levels.shape), size).contiguous())

    def _check_lattice(self) -> None:
        if self.color != "rgb":
            raise ValueError(
                f"levels of an image need color 'rgb', got {self.color!r} with subsampling {self.subsampling!r}; attack "
                "such a defence in pixels"
            )

    def refine(self, grey: Tensor) -> Tensor:
        """Coefficients of the 8x8 blocks rounded to multiples of the table, then back to grey levels (B, C, \\*S)."""
        return self.requantise(grey, self.quantisation)

    def requantise(self, grey: Tensor, table: Tensor) -> Tensor:
        """`refine` with another ``table`` of step sizes."""
        if self.color == "rgb":
            return self._code(grey, table)
        if grey.shape[1] != 3:
            raise ValueError(f"color 'ycbcr' needs 3 channels, red, green and blue, got {grey.shape[1]}; use color 'rgb'")
        ycbcr = to_ycbcr(round_ste(clamp_ste(grey, 0, 255)) if self.round_input else grey)
        luma = self._code(ycbcr[:, :1] - self.level_shift, table, bare=True) + self.level_shift
        chroma = ycbcr[:, 1:]
        if self.subsampling == "4:2:0":
            chroma = double(self._code(halve(chroma), table, bare=True), grey.shape[-2:])
        else:
            chroma = self._code(chroma, table, bare=True)
        out = luma + chroma_in_rgb(chroma)
        out = clamp_ste(out, 0, 255) if self.clip else out
        return round_ste(out) if self.round_output else out

    def _planes(self, x: Tensor, table: Tensor) -> Tensor:
        """View as ``(N, 1, *S)`` with the axes that ``table`` transforms."""
        if table.ndim > x.ndim - 2:
            raise ValueError(
                f"an 8x8x8 table needs volumes (B, C, D, H, W), got shape {tuple(x.shape)}; use an 8x8 table for images"
            )
        return x.reshape(-1, 1, *x.shape[-table.ndim :])

    def _code(self, grey: Tensor, table: Tensor, bare: bool = False) -> Tensor:
        """`quantise`, with its surrogate gradient where one is recorded."""
        planes = self._planes(grey, table)
        if torch.is_grad_enabled() and grey.requires_grad:
            return _Refine.apply(planes, table, self, bare).reshape(grey.shape)
        return self.quantise(planes, table, bare)[0].reshape(grey.shape)

    def quantise(self, planes: Tensor, table: Tensor, bare: bool = False, passing: bool = False) -> tuple[Tensor, Tensor | None]:
        """The exact operator on ``(N, 1, *S)`` grey levels, and on request what the surrogate multiplies the gradient of every
        coefficient by: slopes, or a mask; ``None`` where that is 1.

        ``bare`` leaves out the rounding of input and output, the level shift and the clipping. Works through a few rows of blocks at
        a time in buffers of its own; slopes and mask have the padded size.
        """
        size = planes.shape[2:]
        padded = pad_to_block(planes, BLOCK).contiguous()
        rows = block_rows(padded, BLOCK, len(size))
        out = torch.empty_like(rows)
        smooth, band = passing and self.amplitude > 0, passing and self.surrogate == "band"
        kept = torch.empty_like(rows, dtype=rows.dtype if smooth else torch.bool) if smooth or band else None
        step = tiled(table, rows)
        always = tiled(self.quantisation, rows) <= self.surrogate_step
        shift = 0 if bare else self.level_shift
        for part in chunks(rows):
            pixels = rows[part].clamp(0, 255).round_() if self.round_input and not bare else rows[part]
            pixels = pixels - shift if shift else pixels
            coefficients = transform_rows(pixels, BLOCK).div_(step)
            if kept is not None and smooth:
                kept[part] = slope_of(coefficients, self.amplitude)
            coefficients.round_()
            if kept is not None and band:
                kept[part] = (coefficients != 0).logical_or_(always)
            back = transform_rows(coefficients.mul_(step), BLOCK, inverse=True)
            out[part] = back if bare else self._finish(back.add_(shift) if shift else back)
        return crop_to(out.view(padded.shape), size).contiguous(), None if kept is None else kept.view(padded.shape)

    def _finish(self, pixels: Tensor) -> Tensor:
        pixels = pixels.clamp_(0, 255) if self.clip else pixels
        return pixels.round_() if self.round_output else pixels


def tiled(table: Tensor, like: Tensor) -> Tensor:
    """The step of every coefficient of ``like``: rows of blocks ``(groups, 8, *rest)`` or padded planes ``(N, 1, *S)``."""
    repeats = [n // BLOCK for n in like.shape[-table.ndim :]]
    return table.to(like).repeat(*repeats)


class _Refine(torch.autograd.Function):
    """FR with its surrogate gradient; slopes or a mask are all that is kept."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, table: Tensor, defense: FrequencyRefinement, bare: bool) -> Tensor:
        ctx.size = planes.shape[2:]
        out, kept = defense.quantise(planes, table, bare, passing=True)
        ctx.save_for_backward(kept)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (kept,) = ctx.saved_tensors
        if kept is None:  # the orthonormal transform, the padding and the cropping undo each other
            return grads[0], None, None, None
        padded = grads[0].new_zeros(kept.shape)
        crop_to(padded, ctx.size).copy_(grads[0])
        rows, passed = (block_rows(t, BLOCK, len(ctx.size)) for t in (padded, kept))
        for part in chunks(rows):
            rows[part] = transform_rows(transform_rows(rows[part], BLOCK).mul_(passed[part]), BLOCK, inverse=True)
        return pad_adjoint(padded, ctx.size), None, None, None
