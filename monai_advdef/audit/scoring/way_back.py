"""From the network's grid back to that of the file: which transforms of a preprocessing move voxels, and their inverse by MONAI."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    FromMetaTensord,
    Invertd,
    InvertibleTransform,
    Lambdad,
    MapTransform,
    RandLambdad,
    SpatialResample,
    ToMetaTensord,
    ToTensord,
    Transposed,
)
from torch import Tensor

from monai_advdef.dicom.series_subject import Grid, check_same_grid
from monai_advdef.errors import DataError, reason

MOVING = ("monai.transforms.spatial.", "monai.transforms.croppad.")  # the rooms of MONAI whose transforms move voxels
STILL = (FromMetaTensord, Lambdad, RandLambdad, ToMetaTensord, ToTensord)  # they can be inverted, and move none
PRED = "pred"
PIXELS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy", ".npz")  # formats that tell no size in mm


def steps(transforms: Any) -> list[Any]:
    """The transforms of a ``Compose``, of a list of them, or of nothing, one after the other."""
    if transforms is None:
        return []
    if isinstance(transforms, Compose):
        return list(transforms.flatten().transforms)
    if isinstance(transforms, (list, tuple)):
        return [step for one in transforms for step in steps(one)]
    return [transforms]


def moves(transform: Any) -> bool:
    """Whether a transform moves voxels: MONAI's spatial ones, what inherits from them, and any other that has an inverse."""
    if isinstance(transform, Transposed):
        indices = transform.transform.indices
        return indices is not None and indices[0] == 0  # else it brings the channel to the front
    if isinstance(transform, STILL):
        return False
    if any(kind.__module__.startswith(MOVING) for kind in type(transform).__mro__):
        return True
    return isinstance(transform, InvertibleTransform) and not isinstance(transform, Compose)


def grid_of(x: MetaTensor) -> Grid:
    """Where the voxels of an image (C, \\*S) lie: its shape and affine, a plane being one voxel thick."""
    return _three(tuple(x.shape[1:]), x.affine)


def file_grid(image: MetaTensor) -> Grid | None:
    """Where the voxels of the file lie from which an image was read, as MONAI's readers keep it; ``None`` where they do not."""
    shape, affine = image.meta.get("spatial_shape"), image.meta.get("original_affine")
    affine = torch.eye(4) if affine is None and in_pixels(image) else affine
    sizes = () if shape is None else tuple(int(n) for n in torch.as_tensor(shape).flatten().tolist())
    if affine is None or not sizes or sum(n > 1 for n in sizes[image.ndim - 1 :]):  # an array with its channels among the axes
        return None
    return _three(sizes, torch.as_tensor(affine))


def in_pixels(image: Tensor) -> bool:
    """Whether an image comes from a file of a format that tells no size in mm, or from none that is known."""
    file = str(image.meta.get("filename_or_obj", "")) if isinstance(image, MetaTensor) else ""
    return not file or Path(file).suffix.lower() in PIXELS


def _three(shape: tuple[int, ...], affine: Any) -> Grid:
    there, told = np.eye(4), np.asarray(torch.as_tensor(affine).double().cpu())
    last = len(told) - 1
    there[:last, :last], there[:last, 3] = told[:last, :last], told[:last, last]
    return Grid((*shape, 1, 1)[: max(3, len(shape))], there)


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids are one, but for rounding."""
    try:
        check_same_grid({"one": one, "other": other})
    except DataError:
        return False
    return True


class WayBack:
    """Brings what is on the network's grid onto that of the file, by MONAI's own inverses of the transforms that move voxels.

    A preprocessing of MONAI's transforms that ends in ``ToTensord``, which forgets them, is undone by a resampling from affine to
    affine.

    Args:
        preprocessing: that of the network, dictionary transforms.
        image_key: of the image.

    Raises:
        ValueError: a transform of the image moves voxels and has no inverse.
    """

    def __init__(self, preprocessing: Any, *, image_key: str = "image") -> None:
        self.image_key = image_key
        every = steps(preprocessing)
        self.moving = [t for t in every if moves(t)]
        self.untraced = any(isinstance(t, ToTensord) for t in every) and all(_of_monai(t) for t in every)
        lost = [t for t in self.moving if not isinstance(t, InvertibleTransform) and image_key in getattr(t, "keys", (image_key,))]
        if lost:
            raise ValueError(
                f"{type(lost[0]).__name__} of the preprocessing moves voxels and has no inverse in MONAI, so a prediction cannot be "
                "brought back to the grid of the file; use one that has (Orientationd, Spacingd, Resized, the crops and pads)"
            )

    @property
    def named(self) -> str:
        """The transforms, in words."""
        return ", ".join(type(t).__name__ for t in self.moving) or "no spatial transform"

    def __call__(self, x: Tensor, fed: MetaTensor, *, nearest: bool) -> MetaTensor:
        """``x`` (C, \\*S) on the grid of the network's input ``fed`` (which tells what was done to the image), on the file's grid.

        Args:
            x: class map, masks or scores.
            fed: what the preprocessing made of the image.
            nearest: take the nearest voxel; else interpolate as the preprocessing did. What lies outside the network's view is 0.

        Raises:
            DataError: what comes out does not lie where the file's voxels do; names the file.
        """
        file, name = file_grid(fed), str(fed.meta.get("filename_or_obj", "the image"))
        if tuple(x.shape[1:]) != tuple(fed.shape[1:]):
            raise DataError(
                f"{name}: the prediction has the size {tuple(x.shape[1:])}, the network's input {tuple(fed.shape[1:])}; both must "
                "agree, or the postprocessing must bring the prediction back itself (MONAI's Invertd)"
            )
        if not self.moving:
            return _put(x, fed)
        if self.untraced and file is not None and all(op.get("class") == ToTensord.__name__ for op in fed.applied_operations):
            return resampled(x, fed, file, nearest=nearest)  # what was done to the image is forgotten, not where it lies
        why = ""
        for key in self._keys():
            try:
                found = self._inverted(x, fed, key, nearest)
            except Exception as error:  # MONAI's own, of whatever kind
                why = reason(error)
                continue
            if file is None or same_grid(grid_of(found), file):
                return found
            why = f"it comes to {tuple(found.shape[1:])} voxels, the file has {file.shape}, or they lie elsewhere"
        raise DataError(
            f"{name}: the prediction cannot be brought back to the grid of the file through {self.named} ({why}); keep the image a "
            "MetaTensor throughout the preprocessing, or give the bundle a postprocessing with Invertd"
        )

    def _keys(self) -> Sequence[str]:
        """Names under which the image may have been moved: its own, then those from which it was put together."""
        others: Iterable[str] = (k for t in self.moving for k in getattr(t, "keys", ()))
        return list(dict.fromkeys([self.image_key, *others]))

    def _inverted(self, x: Tensor, fed: MetaTensor, key: str, nearest: bool) -> MetaTensor:
        undo = Invertd(PRED, transform=Compose(self.moving), orig_keys=key, nearest_interp=nearest)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the keys that are not there
            return undo({PRED: MetaTensor(torch.as_tensor(x).as_subclass(Tensor).float()), key: fed})[PRED]


def _of_monai(transform: Any) -> bool:
    return type(transform).__module__.startswith("monai.transforms.")


def resampled(x: Tensor, fed: MetaTensor, to: Grid, *, nearest: bool) -> MetaTensor:
    """What lies on the grid of ``fed`` on another one, by the two affines alone."""
    move = SpatialResample(mode="nearest" if nearest else "bilinear", padding_mode="zeros", dtype=np.float64)
    found = move(_put(x, fed), dst_affine=torch.as_tensor(to.affine), spatial_size=to.shape[: x.ndim - 1])
    return MetaTensor(found.as_subclass(Tensor).float(), affine=torch.as_tensor(to.affine))


def _put(x: Tensor, fed: MetaTensor) -> MetaTensor:
    made = MetaTensor(torch.as_tensor(x).as_subclass(Tensor).float(), affine=fed.affine)
    made.meta |= {k: fed.meta[k] for k in ("filename_or_obj", "xyzt_units", "spatial_shape", "original_affine") if k in fed.meta}
    return made


def inverts(postprocessing: Any, key: str) -> bool:
    """Whether a postprocessing brings ``key`` back itself, by MONAI's ``Invertd``."""
    return any(isinstance(t, Invertd) and isinstance(t, MapTransform) and key in t.keys for t in steps(postprocessing))


def extent(grid: Grid) -> float:
    """The diagonal of the field of view, in the units of the affine."""
    sizes = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return math.dist([0.0] * 3, [float(s) * n for s, n in zip(sizes, grid.shape)])
