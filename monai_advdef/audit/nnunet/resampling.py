"""nnU-Net's resampling between grids as differentiable functions, equal to what scikit-image, scipy and torch make of it there.

A spline of any order is linear in the image and separable, so it is one matrix per axis. Each is scipy's own answer to the unit
vectors: nothing of its prefilter or its borders is written a second time. What is not linear, scikit-image's clip to the range of
its input, follows. Everything is computed in float64, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from monai_advdef.audit.nnunet.library import own
from monai_advdef.errors import DataError

Sizes = Sequence[int]
Spacing = Sequence[float]
Resample = Callable[[Tensor, Sizes, Spacing, Spacing], Tensor]
SPLINE, LINEAR, NOTHING = RESAMPLING = ("resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack")


def resampling(name: str, kwargs: Mapping[str, Any], field: str) -> Resample:
    """A function of ``(x (C, *S), shape, spacing, new spacing)`` for one that the plans name.

    Raises:
        DataError: another function than nnU-Net's three, or one with arguments that are not known; naming the field of the plans.
    """
    makers = {
        SPLINE: (_spline, {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}),
        LINEAR: (
            _linear,
            {"is_seg", "num_threads", "device", "memefficient_seg_resampling", "force_separate_z", "separate_z_anisotropy_threshold"}
            | {"mode", "aniso_axis_mode"},
        ),
        NOTHING: (_nothing, set()),
    }
    if name not in makers:
        raise DataError(f"plans.json: {field} is {name!r}, which is not known to be differentiable; known: {', '.join(makers)}")
    make, known = makers[name]
    if kwargs.get("is_seg") or not set(kwargs) <= known:
        raise DataError(
            f"plans.json: {field}_kwargs are {dict(kwargs)}, of images known are {', '.join(sorted(known))} (is_seg false)"
        )
    return make(kwargs)


def rounds_to_half(name: str) -> bool:
    """Whether a resampling of half-precision logits answers in half precision."""
    return name != LINEAR


@lru_cache(maxsize=64)
def zoom_matrix(size: int, new: int, order: int) -> Tensor:
    """(new, size): ``scipy.ndimage.zoom`` along one axis, as ``skimage.transform.resize(mode="edge")`` calls it."""
    factor = 1 / np.divide(size, new)
    return torch.from_numpy(ndimage.zoom(np.eye(size), (factor, 1), order=order, mode="nearest", grid_mode=True))


@lru_cache(maxsize=64)
def slice_matrix(size: int, new: int, order: int) -> Tensor:
    """(new, size): ``scipy.ndimage.map_coordinates`` between the slices of an anisotropic volume."""
    rows, columns = np.mgrid[:new, :size]
    rows = size / new * (rows + 0.5) - 0.5
    return torch.from_numpy(ndimage.map_coordinates(np.eye(size), np.array([rows, columns]), order=order, mode="nearest"))


def _spline(kwargs: Mapping[str, Any]) -> Resample:
    order, order_z = int(kwargs.get("order", 3)), int(kwargs.get("order_z", 0))

    def resample(x: Tensor, shape: Sizes, spacing: Spacing, new: Spacing) -> Tensor:
        if tuple(x.shape[1:]) == tuple(shape):
            return x
        separate, axis = _separate(kwargs, False, spacing, new)
        channels = [_splined(c.double(), shape, order, order_z, axis if separate else None) for c in x]
        return torch.stack(channels).to(x.dtype)

    return resample


def _splined(x: Tensor, shape: Sizes, order: int, order_z: int, apart: int | None) -> Tensor:
    """One channel; with ``apart`` every slice along that axis by itself, and then the slices."""
    out = x
    for axis, (size, new) in enumerate(zip(x.shape, shape)):
        if size != new and axis != apart:
            out = _along(out, zoom_matrix(size, new, order), axis)
    if order > 1:
        dims = tuple(a for a in range(x.ndim) if a != apart)
        out = torch.minimum(torch.maximum(out, x.amin(dims, keepdim=True)), x.amax(dims, keepdim=True))
    if apart is not None and x.shape[apart] != shape[apart]:
        out = _along(out, slice_matrix(x.shape[apart], shape[apart], order_z), apart)
    return out


def _along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    return torch.movedim(torch.movedim(x, axis, -1) @ matrix.T.to(x), -1, axis)


def _linear(kwargs: Mapping[str, Any]) -> Resample:
    mode, mode_z = str(kwargs.get("mode", "linear")), str(kwargs.get("aniso_axis_mode", "nearest-exact"))

    def resample(x: Tensor, shape: Sizes, spacing: Spacing, new: Spacing) -> Tensor:
        separate, axis = _separate(kwargs, None, spacing, new)
        if not separate:
            return _interpolated(x, shape, "linear")
        slices = torch.movedim(x, axis + 1, 1)
        plane = [s for a, s in enumerate(shape) if a != axis]
        flat = _interpolated(slices.flatten(0, 1), plane, mode)
        x = torch.movedim(flat.unflatten(0, slices.shape[:2]), 1, axis + 1)
        return _interpolated(x, shape, mode_z)

    return resample


def _interpolated(x: Tensor, shape: Sizes, mode: str) -> Tensor:
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    mode = {3: "bilinear", 4: "trilinear"}[x.ndim] if mode == "linear" else mode
    return F.interpolate(x[None].float(), tuple(int(s) for s in shape), mode=mode, antialias=False)[0]


def _nothing(kwargs: Mapping[str, Any]) -> Resample:
    return lambda x, shape, spacing, new: x


def _separate(kwargs: Mapping[str, Any], default: bool | None, spacing: Spacing, new: Spacing) -> tuple[bool, int]:
    """Whether the slices are resampled by themselves, and along which axis."""
    given = [kwargs["separate_z_anisotropy_threshold"]] if "separate_z_anisotropy_threshold" in kwargs else []
    decide = own("nnunetv2.preprocessing.resampling.default_resampling").determine_do_sep_z_and_axis
    separate, axis = decide(kwargs.get("force_separate_z", default), spacing, new, *given)
    return bool(separate), int(axis) if separate else -1
