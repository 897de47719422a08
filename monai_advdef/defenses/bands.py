"""The quantisation tables of Frequency Refinement, and the statistics of the images they are fitted to.

The paper's are 8x8. Tables and statistics of 8x8x8 cubes are our extension to volumes: the same ranking, cut at the same shares.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_advdef.dct import block_dct, crop_to
from monai_advdef.switches import as_written

PRIMARY, ACCURATE = 3, 12  # of 64: ranks 1-3 take QS1, 4-15 take QS2, 16-64 take QS3


def zigzag(block: int = 8, dims: int = 2) -> Tensor:
    """The JPEG zig-zag index of every coefficient, ``(block, block)`` int64 (ITU-T T.81, figure A.6).

    With ``dims=3`` its extension to cubes: by rising ``u + v + w``, then by ``u``, then in each plane ``u`` as in JPEG.
    """
    places = list(product(range(block), repeat=dims))
    places.sort(key=lambda p: (sum(p), p[:-2], p[-1] if sum(p[-2:]) % 2 == 0 else p[-2]))
    index = torch.empty((block,) * dims, dtype=torch.int64)
    for rank, place in enumerate(places):
        index[place] = rank
    return index


def check_steps(steps: Sequence[float]) -> tuple[float, float, float]:
    """Three positive step sizes; a warning if they leave the paper's ``QS1 >= QS2 <= QS3``."""
    if len(steps) != 3 or not all(step > 0 for step in steps):
        raise ValueError(
            f"steps must be three positive step sizes (QS1, QS2, QS3) in grey levels, got {list(steps)}; use e.g. (30, 5, 80)"
        )
    first, second, third = steps
    if first < second or second > third:
        warnings.warn(f"steps {list(steps)} do not keep QS1 >= QS2 and QS2 <= QS3, which Frequency Refinement assumes", stacklevel=3)
    return first, second, third


def frequency_table(steps: Sequence[float] = (30, 5, 80), band_std: Any = None) -> Tensor:
    """The 8x8 table of the paper: bands ranked by falling standard deviation, ranks 1-3, 4-15, 16-64 quantised by the three steps.

    Statistics of cubes give an 8x8x8 table cut at the same shares of the bands (3/64 and 15/64): ranks 1-24, 25-120, 121-512. A
    structure that is constant in depth has coefficients sqrt(8) times as large in a cube as in a square.

    Args:
        steps: ``(QS1, QS2, QS3)`` in grey levels of the orthonormal DCT.
        band_std: 8x8 or 8x8x8 standard deviations (tensor, array, nested list, or the path of a file of `save_band_statistics`).
            Ties go to the lower zig-zag index. Without it the ranking is the zig-zag order, which images with a 1/f spectrum have.

    Returns:
        ``(8, 8)`` or ``(8, 8, 8)`` float64.

    Raises:
        ValueError: a step is not positive, or ``band_std`` is not 8x8 or 8x8x8, finite and non-negative.
    """
    quantisers = check_steps(steps)
    order = zigzag()
    if band_std is not None:
        std = read_table(band_std, "band_std")
        if std.shape not in ((8,) * 2, (8,) * 3) or not bool((std >= 0).all()):
            raise ValueError(
                f"band_std must be 8x8 and non-negative (8x8x8 for cubes), got shape {tuple(std.shape)}; "
                "fit it with fit_band_statistics"
            )
        by_zigzag = zigzag(dims=std.ndim).flatten().argsort()
        ranked = by_zigzag[std.flatten()[by_zigzag].argsort(descending=True, stable=True)]
        order = ranked.argsort().view(std.shape)
    primary, accurate = (ranks * order.numel() // 64 for ranks in (PRIMARY, PRIMARY + ACCURATE))
    band = (order >= primary).long() + (order >= accurate).long()
    return torch.tensor(quantisers, dtype=torch.float64)[band]


def zone_table(steps: Sequence[float] = (30, 5, 80)) -> Tensor:
    """The table of the authors' published code: the top left 2x2 takes QS1, the rest of the 4x4 QS2, the rest QS3 (4/12/48)."""
    first, second, third = check_steps(steps)
    table = torch.full((8, 8), third, dtype=torch.float64)
    table[:4, :4] = second
    table[:2, :2] = first
    return table


def fit_band_statistics(images: Iterable[Any], value_range: Sequence[float] = (0, 255), block: int = 8, dims: int = 2) -> Tensor:
    """Standard deviation of every DCT coefficient over all whole, non-overlapping blocks of all images, pooled over channels.

    Fit it on benign training images only. The images are streamed: one is held at a time.

    Args:
        images: iterable of ``(C, *S)`` or ``(B, C, *S)`` tensors or arrays in image units, ``S`` of ``dims`` axes.
        value_range: the image units of grey levels 0 and 255.
        block: edge length of a block.
        dims: 2 for squares of images ``(C, H, W)``, 3 for cubes of volumes ``(C, D, H, W)``.

    Returns:
        ``(block,) * dims`` float64 in grey levels.

    Raises:
        ValueError: ``dims`` is neither 2 nor 3, an image of another number of axes or with values that are not finite, or no whole
            block at all.
    """
    if dims not in (2, 3):
        raise ValueError(f"dims must be 2 or 3, got {dims!r}; 3 is for volumes (C, D, H, W)")
    axes = "H, W" if dims == 2 else "D, H, W"
    low, high = value_range
    total = torch.zeros((block,) * dims, dtype=torch.float64)
    count, squares = 0, total.clone()
    for number, image in enumerate(images):
        pixels = convert_to_tensor(image, dtype=torch.float64, device="cpu", track_meta=False).detach()
        if pixels.ndim not in (dims + 1, dims + 2) or not bool(pixels.isfinite().all()):
            raise ValueError(
                f"images[{number}] must be finite (C, {axes}) or (B, C, {axes}), got shape {tuple(pixels.shape)}; "
                "clean or reshape it"
            )
        pixels = pixels.reshape(-1, 1, *pixels.shape[-dims:])
        blocks = [size // block for size in pixels.shape[-dims:]]
        if len(pixels) and all(blocks):
            grey = (crop_to(pixels, [n * block for n in blocks]) - low) * (255 / (high - low))
            split = [side for n in blocks for side in (n, block)]
            coefficients = block_dct(grey, block).view(-1, *split)
            between = (0, *range(1, 2 * dims, 2))
            count += coefficients.numel() // block**dims
            total += coefficients.sum(between)
            squares += coefficients.square().sum(between)
    if not count:
        raise ValueError(
            f"images must hold at least one whole {'x'.join([str(block)] * dims)} block, got none; pass larger or more images"
        )
    return (squares / count - (total / count).square()).clamp(min=0).sqrt()


@as_written
def save_band_statistics(band_std: Any, path: str | PathLike[str]) -> None:
    """Write band statistics as JSON, ``{"band_std": 8x8 or 8x8x8}``, which ``band_std=path`` reads back."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"band_std": torch.as_tensor(band_std).tolist()}, indent=1) + "\n")


def read_table(value: Any, name: str) -> Tensor:
    """A nested list, array or tensor, or the path of a JSON file holding one (bare or under the key ``name``), as finite float64."""
    if isinstance(value, (str, PathLike)):
        try:
            value = json.loads(Path(value).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{name} must be a table or the path of a JSON file holding one, got {str(value)!r} ({error})"
            ) from error
        value = value.get(name) if isinstance(value, dict) else value
    try:
        table = torch.as_tensor(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a full table of numbers, got {value!r}; pass e.g. 8 lists of 8 numbers") from error
    if not bool(table.isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries; fit or write it anew")
    return table
