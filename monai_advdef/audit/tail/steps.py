"""One transform of a tail, on the items of a case that are the image: its differentiable twin, or MONAI's own as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CopyItemsd, MapTransform
from monai.transforms.traits import LazyTrait
from torch import Tensor

from monai_advdef.audit.tail.boxes import Box
from monai_advdef.audit.tail.intensity import KNOWN
from monai_advdef.audit.tail.kinds import REMEDY, Kind, NotDifferentiable, keys_of, name_of, plain, type_for
from monai_advdef.audit.tail.proof import SLACK, gradient_error
from monai_advdef.errors import reason

Items = dict[str, Any]  # key -> image (C, *S), a MetaTensor where a transform moves voxels


def alone(transform: Any) -> Any:
    """A dictionary transform that does without the keys that are no image."""
    if not isinstance(transform, MapTransform):
        return transform
    twin = copy.copy(transform)
    twin.allow_missing_keys = True
    return twin


def stepped(t: Any, kind: Kind, items: Items, key: str, dictionary: bool, lazy: bool | None) -> Items:
    """What a transform makes of the items; ``dictionary``: an own class takes all of them, not the image under ``key``.

    Raises:
        NotDifferentiable: it asks for more than the image, fails on it, or passes no gradient on.
    """
    if kind is Kind.IDLE:
        return items
    if kind is Kind.SCALES:
        return _each(t, items, lambda _, x: KNOWN[type(plain(t))](plain(t), x))
    if kind is Kind.TYPES:
        return _each(t, items, lambda k, x: x if type_for(t, k) is None else x.to(type_for(t, k)).float())
    after = _run(t, items, key, dictionary, lazy)
    wanted = torch.is_grad_enabled() and any(v.requires_grad for v in items.values())
    if wanted and not any(isinstance(v, Tensor) and v.requires_grad for v in after.values()):
        raise NotDifferentiable(f"{name_of(t)} as it is set up passes no gradient; {REMEDY}")
    return after


def box_of(t: Any, items: Items, key: str) -> Box:
    """Where ``CropForeground`` cuts the items by their values.

    Raises:
        NotDifferentiable: it cuts by an item that is no image.
    """
    source = getattr(t, "source_key", key)
    if source not in items:
        raise NotDifferentiable(f"{name_of(t)} cuts by {source!r}, and the network's input does not tell where; {REMEDY}")
    start, end = plain(t).compute_bounding_box(items[source].detach())
    return np.asarray(start), np.asarray(end)


def cropped(t: Any, items: Items, box: Any, key: str, lazy: bool | None) -> Items:
    """The items that ``CropForeground`` names, cut to a box that may reach beyond them."""
    changed = dict(items)
    for k, mode in zip(t.keys, t.mode) if isinstance(t, MapTransform) else ((key, None),):  # type: ignore[attr-defined]
        if k in items:
            changed[k] = plain(t).crop_pad(items[k], *box, mode=mode, lazy=t.lazy if lazy is None else lazy)
    return changed


def require_slope(t: Any, items: Items, key: str, dictionary: bool, lazy: bool | None, called: str) -> None:
    """See that the gradient of a transform that is not known is its slope at the items of the case ``called`` so.

    Raises:
        NotDifferentiable: it is not.
    """
    for k in [k for k in (keys_of(t) or items) if k in items]:
        x = items[k]

        def part(changed: Tensor, k: str = k, x: Any = x) -> Tensor:
            after = _run(t, {**items, k: _like(changed, x)}, key, dictionary, lazy)
            return after[k if k in after else key].as_subclass(Tensor).float()

        off = gradient_error(part, x.detach().as_subclass(Tensor))
        if not off <= SLACK:
            why = "passes no gradient" if off == float("inf") else f"passes a gradient that is off its slope by {off:.0%}"
            raise NotDifferentiable(f"{called}: {name_of(t)} is not known, and {why}; {REMEDY}")


def single(case: Tensor, place: int) -> Tensor:
    """One case of a batch, with an affine of its own where the batch was put together by hand."""
    if isinstance(case, MetaTensor) and case.affine.ndim > 2:
        return MetaTensor(case.as_subclass(Tensor), affine=case.affine[min(place, len(case.affine) - 1)])
    return case


def space(case: MetaTensor) -> dict[str, Any]:
    """The part of an image's meta that its geometry needs beside the affine."""
    return {k: v for k, v in case.meta.items() if k == "space"}


def _each(t: Any, items: Items, change: Callable[[str, Tensor], Tensor]) -> Items:
    """The items with those that a transform names changed, and the meta of all kept."""
    named = [k for k in (keys_of(t) or items) if k in items]
    return {**items, **{k: _like(change(k, items[k].as_subclass(Tensor)), items[k]) for k in named}}


def _like(x: Tensor, other: Any) -> Tensor:
    return MetaTensor(x).copy_meta_from(other) if isinstance(other, MetaTensor) else x


def _run(t: Any, items: Items, key: str, dictionary: bool, lazy: bool | None) -> Items:
    try:
        if isinstance(t, CopyItemsd):  # MONAI's copies have no gradient
            return {**items, **{new: items[old] for old, new in zip(t.keys * t.times, t.names) if old in items}}
        how = {"lazy": lazy} if isinstance(t, LazyTrait) else {}
        return dict(t(dict(items), **how)) if dictionary else {**items, key: t(items[key], **how)}
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise NotDifferentiable(f"{name_of(t)} cannot be run on the image alone ({why}); {REMEDY}") from error
