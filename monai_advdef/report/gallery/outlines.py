"""The borders of class maps as SVG paths, no more of them than an eye can follow."""

from __future__ import annotations

import numpy as np
from contourpy import contour_generator

TRUTH, PREDICTION = "#fff", "#19e3ff"
"""White and cyan stand out on skin, on the fundus and on grey images alike; a dark edge carries them over bright ground."""
MOST_POINTS = 1500
"""Corners of the outlines of one picture; the prediction of a network that was barely trained has a hundred thousand."""
FINEST = 512
"""Class maps wider or higher than this are thinned out before their borders are drawn."""


def outline(classes: np.ndarray, colour: str, *, dashed: bool = False) -> str:
    """The borders of every class of a class map (H, W) as SVG paths, in pixels, simplified to within half a pixel of 256 across.

    Of more than ``MOST_POINTS`` corners those of the smallest pieces are left out.
    """
    step = max(1, -(-max(classes.shape) // FINEST))
    kept = classes[::step, ::step]
    pieces = [(int(value), piece) for value in np.unique(kept[kept > 0]) for piece in _pieces((kept == value).astype(float))]
    pieces = [(value, simplified(piece, max(kept.shape) / FINEST)) for value, piece in _largest(pieces, 10 * MOST_POINTS)]
    pieces = _largest(pieces, MOST_POINTS)
    kind, paths = "dashed" if dashed else "solid", []
    for value in dict.fromkeys(value for value, _ in pieces):
        drawn = "".join(_path(step * piece) for of, piece in pieces if of == value)
        common = f'd="{drawn}" fill="none" vector-effect="non-scaling-stroke"'
        paths.append(f'<path {common} class="halo {kind}"/><path {common} stroke="{colour}" class="{kind}"/>')
    return "".join(paths)


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The closed borders of a mask, corners (n, 2) as x and y in pixels from its outer edge."""
    return [np.asarray(points) - 0.5 for points in contour_generator(z=np.pad(mask, 1)).lines(0.5)]


def _largest(pieces: list[tuple[int, np.ndarray]], most: int) -> list[tuple[int, np.ndarray]]:
    """The longest pieces that have so many corners together, and one at least; in the order of their classes."""
    order = sorted(pieces, key=lambda piece: -len(piece[1]))
    number = int((np.cumsum([len(points) for _, points in order]) <= most).sum())
    return sorted(order[: max(number, 1)], key=lambda piece: piece[0])


def simplified(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Those of the points (n, 2) of a line from which it can be drawn anew to within ``tolerance``; a closed line stays closed.

    Source: Douglas and Peucker, "Algorithms for the reduction of the number of points required to represent a digitized line",
    Cartographica 10, 1973.
    """
    kept = np.zeros(len(points), dtype=bool)
    kept[[0, -1]] = True
    half = len(points) // 2
    pending = [(0, half), (half, len(points) - 1)] if np.allclose(points[0], points[-1]) else [(0, len(points) - 1)]
    kept[[end for _, end in pending]] = True
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        along, inner = points[last] - points[first], points[first + 1 : last] - points[first]
        length = np.hypot(*along)
        apart = np.abs(inner[:, 0] * along[1] - inner[:, 1] * along[0]) / length if length else np.hypot(*inner.T)
        furthest = first + 1 + int(apart.argmax())
        if apart.max() > tolerance:
            kept[furthest] = True
            pending += [(first, furthest), (furthest, last)]
    return points[kept]


def _path(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points.round(1))
