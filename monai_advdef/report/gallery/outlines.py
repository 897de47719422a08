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
    """The borders of every class of a class map (H, W) as SVG paths, in pixels, simplified to within half a pixel of 512 across.

    Of more than ``MOST_POINTS`` corners those of the smallest pieces are left out.
    """
    step = max(1, -(-max(classes.shape) // FINEST))
    kept = classes[::step, ::step]
    found = {
        int(value): _pieces((kept == value).astype(float), 0.5 * max(kept.shape) / FINEST) for value in np.unique(kept[kept > 0])
    }
    least = _smallest([piece for pieces in found.values() for piece in pieces])
    kind, paths = "dashed" if dashed else "solid", []
    for pieces in found.values():
        drawn = "".join(_path(step * piece) for piece in pieces if _extent(piece) >= least)
        common = f'd="{drawn}" fill="none" vector-effect="non-scaling-stroke"'
        paths.append(f'<path {common} class="halo {kind}"/><path {common} stroke="{colour}" class="{kind}"/>' if drawn else "")
    return "".join(paths)


def _pieces(mask: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """The closed borders of a mask, corners (n, 2) as x and y in pixels from its outer edge."""
    lines = contour_generator(z=np.pad(mask, 1)).lines(0.5)
    return [simplified(np.asarray(points), tolerance) - 0.5 for points in lines]


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


def _extent(piece: np.ndarray) -> float:
    return float(np.ptp(piece, axis=0).max())


def _smallest(pieces: list[np.ndarray]) -> float:
    """The extent of the smallest pieces that are drawn."""
    order = sorted(pieces, key=_extent, reverse=True)
    within = np.cumsum([len(piece) for piece in order]) <= MOST_POINTS
    return 0.0 if within.all() else _extent(order[max(int(within.argmin()) - 1, 0)])


def _path(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points.round(1))
