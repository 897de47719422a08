"""A subject as several series: its folders found by name, and all series on one grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from monai_advdef.data.errors import DataError

__all__ = ["check_same_grid", "subject_from_dicom"]


class HasGrid(Protocol):
    """A volume with a place: a :class:`~monai_advdef.data.Series`, a MetaTensor (X, Y, Z) or a nibabel image."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def affine(self) -> Any: ...


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


def subject_from_dicom(folder: str | os.PathLike[str], *, names: Sequence[str] = ("t1", "t1ce", "t2", "flair")) -> dict[str, Path]:
    """The series folders of a subject, in the order of ``names``: sub-folders called so, in capitals or not.

    Raises:
        DataError: the subject has no folder, lacks a series, or has two folders of one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; a subject is a folder with the sub-folders {', '.join(names)}")
    series: dict[str, Path] = {}
    for path in sorted(p for p in root.iterdir() if p.is_dir()):
        name = path.name.lower()
        if name in series:
            raise DataError(f"{root} holds both {series[name].name} and {path.name}; a subject has one folder for each series")
        series[name] = path
    for name in names:
        if name not in series:
            found = ", ".join(sorted(series)) or "none"
            raise DataError(f"{root} lacks the series {name}: sub-folders found: {found}; name them {', '.join(names)}")
    return {name: series[name] for name in names}
