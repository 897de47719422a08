"""What a transform does to an image: reads it, shapes it, crops it by its values, scales it in a known way, or who knows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from monai.transforms import (
    CastToType,
    Compose,
    CropForeground,
    EnsureType,
    GaussianSharpen,
    GaussianSmooth,
    MapTransform,
    MaskIntensity,
    MedianSmooth,
    RandomizableTrait,
    SavitzkyGolaySmooth,
    ScaleIntensityFixedMean,
    SignalFillEmpty,
    ToTensor,
    Transform,
)
from monai.utils import ensure_tuple_rep, get_equivalent_dtype

from monai_advdef.audit.tail.intensity import KNOWN
from monai_advdef.errors import DataError

REMEDY = "attack the input of the network, and say so"


class NotDifferentiable(ValueError):
    """A preprocessing whose end cannot be made a part of the victim; the message names the transform and why."""


class Kind(Enum):
    """What a transform does to an image."""

    READS = "reads a file"
    IDLE = "leaves an image as it is"
    TYPES = "changes its type"
    SHAPES = "moves values, and makes none but by interpolation: MONAI's own passes the gradient"
    CROPS = "crops to a box that depends on the values"
    SCALES = "changes intensities in a way that is written here a second time"
    SMOOTHS = "changes intensities, and MONAI's own passes the true gradient"
    ASKED = "not known: run as it is, and believed where its gradient is its slope"


IDLE = "Identity ToDevice SelectItems DeleteItems FromMetaTensor ToMetaTensor ToNumpy ToTensor DataStats"
ARRANGING = "EnsureChannelFirst AsChannelLast Transpose SqueezeDim RepeatChannel CopyItems ConcatItems"
NO_SHAPES = "ResampleToMatch GridPatch GridSplit BoundingRect"  # by another image, or to several
SMOOTHS = (
    GaussianSharpen,
    GaussianSmooth,
    MaskIntensity,
    MedianSmooth,
    SavitzkyGolaySmooth,
    ScaleIntensityFixedMean,
    SignalFillEmpty,
)


def plain(transform: Any) -> Any:
    """The array transform inside one of MONAI's dictionary transforms; any other as it is."""
    if not isinstance(transform, MapTransform) or not type(transform).__module__.startswith("monai.transforms."):
        return transform
    inside = [v for v in vars(transform).values() if isinstance(v, Transform)]
    return inside[0] if len(inside) == 1 else transform


def name_of(transform: Any) -> str:
    """What a transform is called in words."""
    return getattr(transform, "__name__", None) or type(transform).__name__


def kind_of(transform: Any) -> Kind:
    """What a transform does to an image; a class that inherits from a known one is not taken for it."""
    array, module = plain(transform), type(transform).__module__
    name = type(transform).__name__.removesuffix("d")
    if type(array) in KNOWN:
        return Kind.SCALES
    if type(array) in (EnsureType, CastToType):
        return Kind.TYPES
    if type(array) is CropForeground:
        return Kind.CROPS
    if type(array) in SMOOTHS:
        return Kind.SMOOTHS
    if module.startswith("monai.transforms.io."):
        return Kind.READS
    if module.startswith(("monai.transforms.spatial.", "monai.transforms.croppad.")):
        return Kind.ASKED if name in NO_SHAPES.split() else Kind.SHAPES
    if module.startswith("monai.transforms.utility.") or type(array) is ToTensor:
        return Kind.IDLE if name in IDLE.split() else Kind.SHAPES if name in ARRANGING.split() else Kind.ASKED
    return Kind.ASKED


def flat(preprocessing: Any) -> list[Any]:
    """The transforms of a ``Compose`` or a list, nested ones laid open.

    Raises:
        DataError: one that draws at random.
    """
    found: list[Any] = []
    for t in preprocessing.transforms if type(preprocessing) is Compose else preprocessing:
        found += flat(t) if type(t) in (Compose, list, tuple) else [t]
    for t in found:
        if isinstance(t, RandomizableTrait):
            raise DataError(
                f"the preprocessing holds {name_of(t)}, which draws at random, so an image has no one input of the network; audit "
                "with the preprocessing of the evaluation or inference, which draws nothing"
            )
    return found


def keys_of(transform: Any) -> tuple[Any, ...]:
    """The keys that a dictionary transform names; none of an array transform, and of one that keeps them to itself."""
    return tuple(getattr(transform, "keys", ())) if isinstance(transform, MapTransform) else ()


def told_apart(transforms: Sequence[Any]) -> Any:
    """The first of some transforms that tells a channel from an axis of space, or ``None``."""
    return next((t for t in transforms if kind_of(t) is not Kind.SCALES or getattr(plain(t), "channel_wise", False)), None)


def type_for(transform: Any, key: str) -> torch.dtype | None:
    """The type that ``EnsureType`` or ``CastToType`` gives the image under ``key``; ``None`` where it leaves it."""
    given = getattr(transform, "dtype", None)
    keys = keys_of(transform)
    if key in keys:
        given = ensure_tuple_rep(given, len(keys))[keys.index(key)]
    return None if given is None else get_equivalent_dtype(given, torch.Tensor)
