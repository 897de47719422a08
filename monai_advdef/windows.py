"""The exact gradient of a loss on stitched sliding-window logits, in the memory of one window.

Stitching computes ``logits = sum_w place(m * f(crop_w(x))) / total`` with the importance map ``m`` and ``total = sum_w place(m)``.
Differentiating it as it stands keeps the graph of every window. But the loss needs only the stitched logits, so two passes are
enough: the first, without a graph, gives the logits and ``G = dL/dlogits / total``; the second sends ``m * crop_w(G)`` back through
one window at a time. Both passes batch the windows alike: another batch size may take other convolution kernels, whose rounding
moves the gradient at the kinks of a network. Where memory allows, the first pass keeps the graphs of some windows, which then are
not computed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from monai.utils import ensure_tuple_rep, fall_back_tuple
from torch import Tensor


def is_plain_sliding_window(inferer: Inferer | None) -> bool:
    """Whether the two passes apply: MONAI's sliding window with an ordinary predictor (no coordinates, not slice-wise)."""
    return type(inferer) in (SlidingWindowInferer, SlidingWindowInfererAdapt) and not inferer.with_coord  # type: ignore[union-attr]


def windowed_gradient(
    inferer: SlidingWindowInferer,
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    kept: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, per-case losses and the input gradient of ``sum(loss(inferer(x, predict)))``.

    Args:
        inferer: for which :func:`is_plain_sliding_window` holds.
        predict: windows (N, C, \\*roi) -> logits (N, K, \\*roi).
        x: images (B, C, \\*S).
        loss: stitched logits (B, K, \\*S) -> (B,).
        kept: of how many batches of windows the graphs stay in memory between the passes, so that these are forwarded once; only
            a ``SlidingWindowInferer`` without a buffer visits its windows in an order that can be relied on, others keep none.
    """
    first = _Keeping(predict, kept if type(inferer) is SlidingWindowInferer and not inferer.buffer_steps else 0)
    with torch.no_grad():
        logits = inferer(x, first)
    leaf = logits.detach().requires_grad_()  # type: ignore[union-attr]
    values = loss(leaf)
    (upstream,) = torch.autograd.grad(values.sum(), leaf)
    roi = fall_back_tuple(inferer.roi_size, x.shape[2:])
    padding = _padding(x, roi)
    entry = x.detach().requires_grad_()
    padded = entry
    if any(padding):
        upstream = F.pad(upstream, padding)
        padded = F.pad(entry, padding, mode=str(inferer.padding_mode), value=inferer.cval)
    pixels = padded.detach()
    windows = _slices(inferer, pixels.shape[2:], roi)
    weight, total = _weights(inferer, windows, roi, pixels)
    upstream.div_(total)
    del total
    gradient = torch.zeros_like(pixels)
    for batch in _batches(len(x), windows, inferer.sw_batch_size):
        crops, out = first.passes.popleft() if first.passes else _forward(predict, torch.cat([pixels[i] for i in batch]))
        (back,) = torch.autograd.grad(out, crops, torch.cat([upstream[i] for i in batch]).mul_(weight).to(out), allow_unused=True)
        if back is None:
            raise ValueError(
                "the network passes no gradient back to its windows (weights quantised to integers?); give one that does"
            )
        for index, part in zip(batch, back):
            gradient[index] += part
    (gradient,) = torch.autograd.grad(padded, entry, gradient)
    return leaf.detach(), values.detach(), gradient


def _forward(predict: Callable[[Tensor], Tensor], windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows as a leaf, and what the network makes of them, with its graph."""
    with torch.enable_grad():
        leaf = windows.detach().requires_grad_()
        return leaf, predict(leaf)


class _Keeping:
    """A predictor that holds on to the graphs of its first ``most`` calls."""

    def __init__(self, predict: Callable[[Tensor], Tensor], most: int) -> None:
        self.predict, self.room = predict, most
        self.passes: deque[tuple[Tensor, Tensor]] = deque()

    def __call__(self, windows: Tensor) -> Tensor:
        if len(self.passes) >= self.room:
            return self.predict(windows)
        self.passes.append(_forward(self.predict, windows))
        return self.passes[-1][1].detach().clone()  # MONAI weighs what it gets in place


def _padding(x: Tensor, roi: tuple[int, ...]) -> list[int]:
    """MONAI's symmetric padding to the window size, in the order of ``F.pad`` (last axis first)."""
    missing = [max(r - s, 0) for r, s in zip(roi, x.shape[2:])]
    return [side for m in reversed(missing) for side in (m // 2, m - m // 2)]


def _slices(inferer: SlidingWindowInferer, size: torch.Size, roi: tuple[int, ...]) -> list[tuple[slice, ...]]:
    overlaps = ensure_tuple_rep(inferer.overlap, len(size))
    steps = [r if r == s else max(int(r * (1 - o)), 1) for r, s, o in zip(roi, size, overlaps)]
    return dense_patch_slices(tuple(size), roi, steps)  # type: ignore[arg-type]


def _weights(
    inferer: SlidingWindowInferer, windows: list[tuple[slice, ...]], roi: tuple[int, ...], x: Tensor
) -> tuple[Tensor, Tensor]:
    """The importance map of one window and its sum over all windows, both with leading axes (1, 1)."""
    weight = inferer.roi_weight_map
    if weight is None:
        weight = compute_importance_map(roi, mode=inferer.mode, sigma_scale=inferer.sigma_scale, device=x.device, dtype=x.dtype)
    weight = weight.to(x)[None, None]
    total = torch.zeros((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    for window in windows:
        place = (slice(None), slice(None), *window)
        total[place] += weight
    return weight, total


def _batches(cases: int, windows: list[tuple[slice, ...]], size: int) -> Iterator[list[tuple[slice, ...]]]:
    every = [(slice(b, b + 1), slice(None), *w) for b in range(cases) for w in windows]
    for start in range(0, len(every), size):
        yield every[start : start + size]
