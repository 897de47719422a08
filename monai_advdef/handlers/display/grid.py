"""Where the voxels of a picture lie: the grid of the label, cut down for a screen, and the same places in the image."""

from __future__ import annotations

from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

MOST_VOXELS, LONGEST = 1_000_000, 160
"""A volume is kept with at most so many voxels in all, and along an axis."""


class GridsDiffer(ValueError):
    """Image and label lie on grids that nothing brings together, so no outline can be drawn on the image; says so in words."""


class Grid(NamedTuple):
    """Voxels of an array: how many along each axis, and the affine to mm; None where nothing tells it."""

    shape: tuple[int, ...]
    affine: np.ndarray | None

    @classmethod
    def of(cls, x: Tensor) -> Grid:
        """That of an image or mask (C, \\*S). An identity is what MONAI writes where nothing is known."""
        shape = tuple(x.shape[1:])
        affine = getattr(x, "affine", None)
        if affine is None:
            return cls(shape, None)
        known = np.asarray(torch.as_tensor(affine).detach().cpu(), dtype=float)
        n = len(shape)
        square = np.eye(n + 1)
        square[:n, :n], square[:n, n] = known[:n, :n], known[:n, -1]
        usable = np.isfinite(square).all() and abs(np.linalg.det(square)) > 1e-12 and not np.allclose(square, np.eye(n + 1))
        return cls(shape, square if usable else None)

    def corners(self) -> np.ndarray:
        """The lowest and the highest coordinate of its outer faces along each axis, (2, n), in mm."""
        assert self.affine is not None
        ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in self.shape], indexing="ij")).reshape(len(self.shape), -1)
        at = self.affine[:-1, :-1] @ ends + self.affine[:-1, -1:]
        return np.stack([at.min(1), at.max(1)])


def lying(label: Tensor, prediction: Tensor, image: Tensor) -> Grid:
    """The grid of a label (K, \\*S): where postprocessing has dropped its affine, that of the prediction, or of an image that has
    the same voxels."""
    grids = [Grid.of(x) for x in (label, prediction, image)]
    return next((grid for grid in grids if grid.affine is not None and grid.shape == grids[0].shape), grids[0])


class View(NamedTuple):
    """Which voxels of the label's grid are shown: an index per axis of the picture, the axes in the picture's order, and the size of
    a shown voxel in mm. Axes of a volume run to the patient's left, back and head, as far as the affine tells."""

    axes: tuple[int, ...]
    indices: tuple[np.ndarray, ...]
    spacing: tuple[float, ...]

    def of_label(self, x: Tensor) -> Tensor:
        """The shown voxels of an array (C, \\*S) on the label's grid."""
        x = x.detach()
        x = x.as_tensor() if hasattr(x, "as_tensor") else x
        for axis, index in zip(self.axes, self.indices):
            x = x.index_select(axis + 1, torch.as_tensor(index.copy(), device=x.device))
        return x.permute(0, *(axis + 1 for axis in self.axes))


class Places(NamedTuple):
    """For every shown voxel the nearest one of the image, an index array per axis of the image, and whether there is one."""

    indices: tuple[np.ndarray, ...]
    inside: np.ndarray


def view(grid: Grid) -> View:
    """The voxels of a grid that a picture shows: all of a plane, of a volume as many as ``MOST_VOXELS`` allow."""
    n = len(grid.shape)
    if n < 3:
        return View(tuple(range(n)), tuple(np.arange(s) for s in grid.shape), (1.0,) * n)
    axes, flips, sizes = tuple(range(n)), (False,) * n, np.ones(n)
    if grid.affine is not None:
        towards = nib.orientations.io_orientation(grid.affine)  # of each axis of the array: R, A or S, and whether it runs there
        axes = tuple(int(np.flatnonzero(towards[:, 0] == k)[0]) for k in range(n))
        flips = tuple(bool((towards[axis, 1] > 0) == (k < 2)) for k, axis in enumerate(axes))  # left and back, but head
        sizes = np.sqrt((grid.affine[:n, :n] ** 2).sum(0))[list(axes)]
    shape = np.array([grid.shape[axis] for axis in axes])
    step = float(sizes.min())
    while True:
        shown = np.maximum(sizes, step)
        counts = np.maximum(1, np.ceil(shape * sizes / shown - 1e-6).astype(int))
        if counts.prod() <= MOST_VOXELS and counts.max() <= LONGEST:
            break
        step *= 1.05
    indices = [((np.arange(count) + 0.5) * n / count).astype(int) for count, n in zip(counts, shape)]
    shown = sizes * shape / counts
    return View(axes, tuple(i[::-1] if flip else i for i, flip in zip(indices, flips)), tuple(float(s) for s in shown))


def places(shown: View, label: Grid, image: Grid) -> Places | None:
    """Where in the image the shown voxels of the label's grid lie; None where the two grids are the same.

    Raises:
        GridsDiffer: the shapes differ, and nothing tells how the two grids lie to each other.
    """
    if _same(label, image):
        return None
    _check(label, image)
    assert label.affine is not None and image.affine is not None
    wanted = [np.empty(0)] * len(label.shape)
    for axis, index in zip(shown.axes, np.meshgrid(*shown.indices, indexing="ij")):
        wanted[axis] = index
    across = np.linalg.inv(image.affine) @ label.affine
    there = np.rint(across[:-1, :-1] @ np.stack([w.ravel() for w in wanted]) + across[:-1, -1:]).astype(int)
    last = np.array(image.shape)[:, None] - 1
    inside = ((there >= 0) & (there <= last)).all(0).reshape(wanted[0].shape)
    return Places(tuple(t.reshape(inside.shape) for t in np.clip(there, 0, last)), inside)


def _same(a: Grid, b: Grid) -> bool:
    """Whether two arrays have the same voxels; where not both affines are known, arrays of one shape do."""
    return a.shape == b.shape and (a.affine is None or b.affine is None or np.allclose(a.affine, b.affine, atol=1e-3))


def _check(label: Grid, image: Grid) -> None:
    told = f"the image has {_shape(image)} pixels and the label {_shape(label)}"
    if label.affine is None or image.affine is None:
        raise GridsDiffer(f"{told}, and nothing tells how they lie to each other")
    a, b = label.corners(), image.corners()
    size = (a[1] - a[0]).max()
    if len(label.shape) < 3 and np.abs(a - b).max() > 0.02 * size:  # plane pictures have no place in space beyond their extent
        raise GridsDiffer(f"{told}, and they do not cover the same field")
    if (np.minimum(a[1], b[1]) <= np.maximum(a[0], b[0])).any():
        raise GridsDiffer(f"{told}, and by their affines they lie apart")


def _shape(grid: Grid) -> str:
    return " × ".join(map(str, grid.shape))
