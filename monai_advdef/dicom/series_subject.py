"""Several volumes on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

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


def check_same_grid(volumes: Mapping[str, HasGrid], *, tolerance: float = 0.1) -> None:
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
