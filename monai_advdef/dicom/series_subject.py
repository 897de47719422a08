"""Several volumes on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from monai_advdef.errors import DataError

__all__ = ["check_same_grid"]


class HasGrid(Protocol):
    """A volume with a place: a :class:`~monai_advdef.data.Series`, a MetaTensor (X, Y, Z) or a nibabel image."""

    @property
    def shape(self) -> Sequence[int]:
        """Voxels (X, Y, Z)."""
        ...

    @property
    def affine(self) -> Any:
        """(4, 4), voxel index to millimetres, RAS+."""
        ...


TOLERANCE = 0.1  # mm between corners of one grid: headers are rounded


class Grid(NamedTuple):
    """Where the voxels of a volume lie: ``shape`` (X, Y, Z), and ``affine`` (4, 4) from voxel to RAS in mm."""

    shape: tuple[int, ...]
    affine: np.ndarray

    def turned(self, reference: Grid) -> Grid:
        """The same voxels with the axes of ``reference``, where they are its voxels."""
        array, affine = turned_onto(reference, np.broadcast_to(np.uint8(0), self.shape), self.affine)
        return Grid(array.shape, affine)


def turned_onto(reference: Grid, array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array (X, Y, Z, ...) with its axes in the order and direction of those of ``reference``, and its affine; no voxel moves.

    Unchanged where its voxels are not those of ``reference``, which :func:`check_same_grid` then tells.
    """
    if array.ndim < 3:
        return array, affine
    axes = io_orientation(np.linalg.inv(np.asarray(reference.affine, float)) @ np.asarray(affine, float))
    turned, there = apply_orientation(array, axes), np.asarray(affine, float) @ inv_ornt_aff(axes, array.shape[:3])
    same = _difference(reference, Grid(turned.shape[:3], there), TOLERANCE) is None
    return (turned, there) if same else (array, affine)


def check_same_grid(volumes: Mapping[str, HasGrid], *, tolerance: float = TOLERANCE) -> None:
    """Make sure that all volumes have the same shape and that their corner voxels lie within ``tolerance`` mm of each other's.

    Args:
        volumes: by the name that an error gives them (series or file).

    Raises:
        DataError: two volumes on different grids, naming both and what differs.
    """
    (first, reference), *rest = volumes.items()
    for name, volume in rest:
        if difference := _difference(reference, volume, tolerance):
            raise DataError(
                f"{name} and {first} are not on the same grid: {difference}; "
                "registration is not done here: resample one series onto the other first"
            )


def _difference(a: HasGrid, b: HasGrid, tolerance: float) -> str | None:
    if tuple(a.shape) != tuple(b.shape):
        return f"shape {tuple(b.shape)} against {tuple(a.shape)}"
    affines = [np.asarray(volume.affine, float) for volume in (a, b)]
    corners = np.array(np.meshgrid(*([0, n - 1] for n in a.shape[:3]), [1])).reshape(4, -1)
    distance = float(np.linalg.norm(((affines[1] - affines[0]) @ corners)[:3], axis=0).max())
    if distance <= tolerance:
        return None
    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in affines]
    if not np.allclose(sizes[0], sizes[1], rtol=1e-3):
        return f"voxel size {sizes[1].round(4).tolist()} mm against {sizes[0].round(4).tolist()} mm"
    axes = [affine[:3, :3] / size for affine, size in zip(affines, sizes)]
    turn = np.degrees(np.arccos(np.clip((axes[0] * axes[1]).sum(0), -1, 1)).max())
    return f"corners up to {distance:.2f} mm apart, axes up to {turn:.1f} degrees (limit {tolerance:g} mm)"
