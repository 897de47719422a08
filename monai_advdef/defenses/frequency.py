"""Frequency Refinement (FR): re-quantising the block DCT of an image with a table made for the network, not for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_advdef.dct import block_rows, chunks, crop_to, pad_adjoint, pad_to_block, transform_rows
from monai_advdef.defenses.bands import frequency_table, read_table, zone_table
from monai_advdef.defenses.core import Defense

BLOCK = 8


class FrequencyRefinement(Defense):
    """Orthonormal 8x8 DCT-II of every block, ``round(C / Q) * Q``, inverse DCT; every channel with the same table.

    Any size and number of channels: edges are repeated up to whole blocks and cropped off again. Rounding is half to even.

    The gradient of the forward pass is zero almost everywhere. ``surrogate`` says what an attacker uses instead:

    - ``"band"``: the gradient passes where the coefficient survives quantisation, ``round(C / Q) != 0``, or where its step is small,
      ``Q <= surrogate_step``; elsewhere it is zero, as the output there is. ``IDCT(mask * DCT(grad))``.
    - ``"straight_through"``: the identity. No stronger than an attacker who does not know the defence: it spends its steps in bands
      that are quantised to zero.
    - ``None``: none; the output is detached.

    Args:
        steps: ``(QS1, QS2, QS3)``, step sizes in grey levels; used unless ``table`` holds numbers.
        table: 8x8 step sizes, ``"zones"`` for the published code's (`zone_table`), or the path of a JSON file with a table. An 8x8x8
            table makes the defence volumetric; with an 8x8 one a volume is treated slice by slice over its last two axes.
        band_std: ranks the bands, see `frequency_table`; default is the zig-zag ranking.
        value_range: image units of grey levels 0 and 255.
        surrogate: ``"band"``, ``"straight_through"`` or ``None``.
        surrogate_step: the largest step through which ``"band"`` always passes.
        level_shift: subtracted before the transform and added after it; 0 as published, JPEG has 128.
        round_input: bring the input onto the 8-bit grid first.
        round_output: round the output to whole grey levels.
        clip: clip the output to ``value_range``.

    Raises:
        ValueError: a step that is not positive, a table that is neither 8x8 nor 8x8x8, an unknown surrogate, or both ``table`` and
            ``band_std``.
    """

    def __init__(
        self,
        *,
        steps: Sequence[float] = (30, 5, 80),
        table: Any = None,
        band_std: Any = None,
        value_range: Sequence[float] = (0, 255),
        surrogate: str | None = "band",
        surrogate_step: float = 30,
        level_shift: float = 0,
        round_input: bool = True,
        round_output: bool = True,
        clip: bool = True,
    ) -> None:
        super().__init__(value_range=value_range)
        if surrogate not in ("band", "straight_through", None):
            raise ValueError(f"surrogate must be 'band', 'straight_through' or None, got {surrogate!r}; the default is 'band'")
        if table is not None and band_std is not None:
            raise ValueError(
                "table and band_std exclude each other, got both; drop one (band_std ranks the bands, table fixes every step)"
            )
        self.steps, self.table, self.band_std = tuple(steps), table, band_std
        self.surrogate, self.surrogate_step, self.level_shift = surrogate, surrogate_step, level_shift
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
        if self.table is not None and not isinstance(self.table, str):
            return "FR(table)"
        name = ",".join(f"{step:g}" for step in self.steps)
        return f"FR({name})" if self.table is None else f"FR({name}, zones)" if self.table == "zones" else "FR(table)"

    def refine(self, grey: Tensor) -> Tensor:
        dims = self.quantisation.ndim
        if dims > grey.ndim - 2:
            raise ValueError(
                f"an 8x8x8 table needs volumes (B, C, D, H, W), got shape {tuple(grey.shape)}; use an 8x8 table for images"
            )
        planes = grey.reshape(-1, 1, *grey.shape[-dims:])
        if torch.is_grad_enabled() and grey.requires_grad:
            return _Refine.apply(planes, self).reshape(grey.shape)
        return self.quantise(planes)[0].reshape(grey.shape)

    def quantise(self, planes: Tensor, survivors: bool = False) -> tuple[Tensor, Tensor | None]:
        """The exact operator on ``(N, 1, *S)`` grey levels, and on request the mask of the coefficients the surrogate passes.

        Works through a few rows of blocks at a time in buffers of its own; the mask has the padded size.
        """
        size = planes.shape[2:]
        padded = pad_to_block(planes, BLOCK).contiguous()
        rows = block_rows(padded, BLOCK, len(size))
        out = torch.empty_like(rows)
        mask = torch.empty_like(rows, dtype=torch.bool) if survivors else None
        step = self.quantisation.to(rows).repeat(1, *(n // BLOCK for n in rows.shape[2:]))
        always = step <= self.surrogate_step
        for part in chunks(rows):
            pixels = rows[part].clamp(0, 255).round_() if self.round_input else rows[part]
            pixels = pixels - self.level_shift if self.level_shift else pixels
            coefficients = transform_rows(pixels, BLOCK).div_(step).round_()
            if mask is not None:
                mask[part] = (coefficients != 0).logical_or_(always)
            back = transform_rows(coefficients.mul_(step), BLOCK, inverse=True)
            out[part] = self._finish(back.add_(self.level_shift) if self.level_shift else back)
        return crop_to(out.view(padded.shape), size).contiguous(), None if mask is None else mask.view(padded.shape)

    def _finish(self, pixels: Tensor) -> Tensor:
        pixels = pixels.clamp_(0, 255) if self.clip else pixels
        return pixels.round_() if self.round_output else pixels


class _Refine(torch.autograd.Function):
    """FR with its surrogate gradient; a bool mask is all that is kept."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, defense: FrequencyRefinement) -> Tensor:
        ctx.size = planes.shape[2:]
        out, mask = defense.quantise(planes, survivors=defense.surrogate == "band")
        ctx.save_for_backward(mask)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        if mask is None:  # the orthonormal transform, the padding and the cropping undo each other
            return grads[0], None
        padded = grads[0].new_zeros(mask.shape)
        crop_to(padded, ctx.size).copy_(grads[0])
        rows, passed = (block_rows(t, BLOCK, len(ctx.size)) for t in (padded, mask))
        for part in chunks(rows):
            rows[part] = transform_rows(transform_rows(rows[part], BLOCK).mul_(passed[part]), BLOCK, inverse=True)
        return pad_adjoint(padded, ctx.size), None
