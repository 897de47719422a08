"""Orthonormal block DCT-II on images and volumes of any size, as matrix products on contiguous views.

``block_dct`` keeps the layout of its input: coefficient ``(u, v)`` of a block stands where pixel ``(u, v)`` of that block stood.
The transform of one axis is a product with a block-diagonal matrix, so nothing is ever permuted. Because the basis is orthonormal,
the inverse is also the adjoint and the backward pass of one is the other. The 8x8 transform is JPEG's (ITU-T T.81, A.3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 1 << 17  # elements transformed at a time on a CPU: few enough to stay in its cache and below malloc's fresh-memory threshold


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II basis, ``(size, size)`` float64: row ``u`` is ``c(u) cos((2i + 1) u pi / 2 size)``."""
    index = torch.arange(size, dtype=torch.float64)
    basis = torch.cos((2 * index + 1) * index[:, None] * math.pi / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def block_dct(x: Tensor, block: int = 8) -> Tensor:
    """DCT-II of every non-overlapping block.

    Args:
        x: ``(B, C, *S)`` floating point, ``S`` two or three axes, each a multiple of ``block`` (see `pad_to_block`).
        block: edge length of the square or cubic block.

    Returns:
        the coefficients, in the shape and layout of ``x``.

    Raises:
        ValueError: an axis of ``S`` is no multiple of ``block``.
    """
    return _BlockTransform.apply(x, block, False)


def block_idct(c: Tensor, block: int = 8) -> Tensor:
    """Inverse of `block_dct`: coefficients ``(B, C, *S)`` to pixels."""
    return _BlockTransform.apply(c, block, True)


def pad_to_block(x: Tensor, block: int = 8) -> Tensor:
    """Repeat the last element of every axis of ``S`` in ``(B, C, *S)`` until each is a multiple of ``block``.

    Returns ``x`` itself if nothing is missing. `crop_to` takes the padding off again.
    """
    missing = [side for size in reversed(x.shape[2:]) for side in (0, -size % block)]
    return functional.pad(x, missing, mode="replicate") if any(missing) else x


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first ``size`` elements along the last ``len(size)`` axes."""
    for axis, n in enumerate(size, start=x.ndim - len(size)):
        x = x.narrow(axis, 0, n)
    return x


def pad_adjoint(g: Tensor, size: Sequence[int]) -> Tensor:
    """Adjoint of `pad_to_block`, back to ``size``: what flowed into the repeated elements is added to the one they repeat."""
    for axis, n in zip(range(g.ndim - len(size), g.ndim), size):
        if g.shape[axis] > n:
            last = g.narrow(axis, n - 1, g.shape[axis] - n + 1).sum(axis, keepdim=True)
            g = torch.cat((g.narrow(axis, 0, n - 1), last), axis)
    return g


def block_rows(x: Tensor, block: int, dims: int) -> Tensor:
    """View the last ``dims`` axes of a contiguous tensor as ``(groups, block, *rest)``: independent rows of whole blocks.

    Raises:
        ValueError: an axis is no multiple of ``block``.
    """
    if any(size % block for size in x.shape[-dims:]):
        raise ValueError(
            f"the spatial size must be a multiple of block={block}, got {tuple(x.shape[-dims:])}; call pad_to_block first"
        )
    return x.view(-1, block, *x.shape[x.ndim - dims + 1 :])


def chunks(rows: Tensor) -> Iterator[slice]:
    """Slices of the groups of ``rows`` that fit the cache, an even number of them where possible; all on an accelerator."""
    groups = len(rows)
    step = max(1, CHUNK // max(1, rows[:1].numel())) if rows.device.type == "cpu" else max(1, groups)
    step -= step % 2 if step > 1 else 0
    return (slice(start, start + step) for start in range(0, groups, step))


def transform_rows(rows: Tensor, block: int, inverse: bool = False) -> Tensor:
    """DCT (or its inverse) of ``(groups, block, *rest)`` as `block_rows` gives it; a new tensor of that shape, without autograd."""
    y, trail = rows, 1
    for size in reversed(rows.shape[1:]):
        pair = 2 if rows.numel() % (2 * block * trail) == 0 else 1
        matrix = _block_diagonal(block, pair, inverse != (trail == 1), rows.dtype, rows.device)
        y = y.reshape(-1, block * pair) @ matrix if trail == 1 else matrix @ y.reshape(-1, block * pair, trail)
        trail *= size
    return y.view(rows.shape)


@lru_cache(maxsize=64)
def _block_diagonal(block: int, copies: int, transposed: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Two copies of the basis on a diagonal double the arithmetic and still run faster: 8 is too narrow for a matrix product."""
    with torch.inference_mode(False):
        basis = dct_matrix(block)
        return torch.block_diag(*[basis.t() if transposed else basis] * copies).to(device, dtype).contiguous()


class _BlockTransform(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: int, inverse: bool) -> Tensor:
        ctx.block, ctx.inverse = block, inverse
        rows = block_rows(x.contiguous(), block, x.ndim - 2)
        out = torch.empty_like(rows)
        for part in chunks(rows):
            out[part] = transform_rows(rows[part], block, inverse)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _BlockTransform.apply(grads[0], ctx.block, not ctx.inverse), None, None
