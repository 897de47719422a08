"""The end of a preprocessing, from its first intensity transform on, as a differentiable part of the victim."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd, MapTransform
from monai.transforms.lazy.functional import apply_pending_transforms, apply_pending_transforms_in_order
from monai.transforms.traits import LazyTrait
from torch import Tensor, nn

from monai_advdef.audit.tail.boxes import Box, boxes_of, same, told
from monai_advdef.audit.tail.intensity import KNOWN
from monai_advdef.audit.tail.kinds import Kind, NotDifferentiable, flat, kind_of, name_of, plain, type_for
from monai_advdef.audit.tail.proof import SLACK, gradient_error
from monai_advdef.errors import reason
from monai_advdef.types import Images

TOLERANCE = 1e-5  # of the range of the network's input, or of 1 where that is smaller
REMEDY = "attack the input of the network, and say so"
Items = dict[str, Any]  # key -> MetaTensor (C, *S)


class Tail(nn.Module):
    """Transforms as one differentiable function: images (B, C, \\*S) in image units -> what the network is fed (B, C', \\*S').

    Statistics (minimum, mean, percentiles, ...) are those of the image that is given, so the gradient runs through them, too; a
    voxel that leaves 0 comes among the nonzero ones, as it would where the network is deployed. Geometry is that of the clean image
    given to :meth:`require_equal` or :meth:`hold`: its affine, and the boxes that ``CropForeground`` cut in it; :meth:`moved` tells
    where a changed image would be cut elsewhere. Cases of a batch must agree in their geometry.

    Args:
        transforms: in their order, array or dictionary; known intensity transforms have differentiable twins, spatial ones
            are MONAI's own, and others what they are, believed where finite differences confirm their gradient.
        key: under which a dictionary transform knows the image.
        sources: the keys whose channels, one after the other and equally many of each, make the image before the first transform.
        lazy: whether consecutive spatial transforms are resampled at once, as in ``Compose(lazy=True)``.
        dictionary: whether a transform that is none of MONAI's takes a dictionary; told by the others otherwise.

    """

    fleeting = ("held", "size", "boxes")

    def __init__(
        self,
        transforms: Iterable[Any],
        *,
        key: str = "image",
        sources: Sequence[str] = (),
        lazy: bool | None = False,
        dictionary: bool = False,
    ) -> None:
        super().__init__()
        self.key, self.sources, self.lazy = key, tuple(sources) or (key,), lazy
        self.transforms = [_alone(t) for t in flat(transforms)]
        self.dictionary = dictionary or any(isinstance(t, MapTransform) for t in self.transforms)
        self.kinds = [kind_of(t) for t in self.transforms]
        self.spatial = any(kind in (Kind.SHAPES, Kind.CROPS, Kind.ASKED) for kind in self.kinds)
        self.held: MetaTensor | None = None  # an empty image with the affine of the clean one
        self.size: tuple[int, ...] = ()
        self.boxes: list[Box | None] = []

    def forward(self, image: Images) -> Tensor:
        """What the network is fed (B, C', \\*S'), in float32.

        Raises:
            ValueError: images of another size or affine than those whose geometry is held.
            NotDifferentiable: a transform passed no gradient on.
        """
        if self.spatial:
            self._require_held(image)
        return torch.stack([self._one(case) for case in image.as_subclass(Tensor).float()])

    def hold(self, image: Images, fed: Images | None = None) -> None:
        """Take the geometry of clean images (B, C, \\*S): their affine, and the boxes that the deployed chain cut, as ``fed`` tells.

        Raises:
            ValueError: cases of one batch with different affines or boxes.
        """
        every = [self._geometry(_single(case, i), None if fed is None else fed[i]) for i, case in enumerate(image)]
        held, boxes = every[0]
        for other, others in every[1:]:
            alike = torch.equal(other.affine, held.affine) and all(map(same, boxes, others))
            if self.spatial and not alike:
                raise ValueError(
                    "cases of one batch lie on different grids, or are cropped elsewhere; give them one by one: batch_size 1"
                )
        self.held, self.boxes, self.size = held, boxes, tuple(image.shape[1:])

    def require_gradient(self) -> None:
        """Raise ``NotDifferentiable`` for a transform to a type of whole numbers, which rounds."""
        for i, (t, kind) in enumerate(zip(self.transforms, self.kinds)):
            dtype = type_for(t, self.key) if kind is Kind.TYPES else None
            if dtype is not None and not dtype.is_floating_point:
                behind = f" behind {name_of(self.transforms[0])}" if i else ""
                raise NotDifferentiable(f"{name_of(t)} to {dtype}{behind} rounds to whole numbers, which has no gradient; {REMEDY}")

    def moved(self, image: Images) -> list[str]:
        """In words, where the deployed chain would crop these images (B, C, \\*S) elsewhere than the clean one; mostly nothing."""
        words = []
        for case in image.detach().as_subclass(Tensor).float():
            boxes: list[Box | None] = list(self.boxes)
            self._one(case, boxes, again=True)
            for t, held, now in zip(self.transforms, self.boxes, boxes):
                if not same(held, now):
                    words.append(f"{name_of(t)} would cut {told(now)} of this image, where it cut {told(held)} of the clean one")
        return words

    def as_deployed(self, case: Images) -> Tensor:
        """What MONAI's own transforms make of one image (C, \\*S), in float32; without a gradient."""
        with torch.no_grad():
            items = self._items(case.detach().as_subclass(Tensor).float().clone(), _single(case, 0))
            if not isinstance(case, MetaTensor) and not self.spatial:
                items = {k: v.as_subclass(Tensor) for k, v in items.items()}
            out = Compose(self.transforms, lazy=self.lazy)(items if self.dictionary else items[self.key])
            return torch.as_tensor(out[self.key] if self.dictionary else out).as_subclass(Tensor).float()

    def difference(self, image: Images, fed: Images | None = None) -> float:
        """Largest difference to what MONAI's transforms make of these images, as a share of the range of their output (or of 1).

        ``fed`` (B, C', \\*S') is what the deployed chain made of them; without it MONAI's transforms are run here. Infinite where
        sizes differ.
        """
        worst = 0.0
        for i, ours in enumerate(self(image.detach())):
            theirs = self.as_deployed(_single(image[i], i)) if fed is None else fed[i].detach().as_subclass(Tensor).float()
            if ours.shape != theirs.shape:
                return float("inf")
            reach = max(1.0, float(theirs.max() - theirs.min()))
            off = float((ours - theirs).abs().max()) / reach
            worst = max(worst, off if off == off else float("inf"))
        return worst

    def require_equal(self, image: Images, fed: Images | None = None, names: str | Sequence[str] = ()) -> None:
        """Hold the geometry of clean images (B, C, \\*S), and see that they become what the deployed chain made of them, ``fed``.

        Raises:
            NotDifferentiable: the first case (``names`` tells them) whose values are not the same to 1e-5 of their range, or where a
                transform that is not known passes a gradient that is not its slope.
            ValueError: cases of one batch with different geometry.
        """
        names = [names] if isinstance(names, str) else names
        self.require_gradient()
        self.hold(image, fed)
        for i in range(len(image)):
            called = names[i] if names else f"case {i}"
            off = self.difference(image[i : i + 1], None if fed is None else fed[i : i + 1])
            if not off <= TOLERANCE:
                every = ", ".join(map(name_of, map(plain, self.transforms))) or "no transform"
                raise NotDifferentiable(
                    f"{called}: {every} differ from MONAI's own by {off:.2g} of their range, more than {TOLERANCE:g}; {REMEDY}"
                )
            self._one(image[i].detach().as_subclass(Tensor).float().requires_grad_(), proving=called)

    def _require_held(self, image: Images) -> None:
        if self.held is None and isinstance(image, MetaTensor):
            self.hold(image)
        if self.held is None:
            raise ValueError("a tail that moves voxels must know their grid; give the clean image to require_equal() first")
        here = _single(image[0], 0).affine.to(self.held.affine) if isinstance(image, MetaTensor) else self.held.affine
        if tuple(image.shape[1:]) != self.size or here.shape != self.held.affine.shape or not torch.allclose(here, self.held.affine):
            raise ValueError(
                f"images {tuple(image.shape)} are not on the grid that is held, {self.size}; give the clean images of the batch to "
                "require_equal() before its attack"
            )

    def _geometry(self, case: Tensor, fed: Tensor | None) -> tuple[MetaTensor, list[Box | None]]:
        held = MetaTensor(torch.empty(0), affine=case.affine, meta=_space(case)) if isinstance(case, MetaTensor) else None
        held = MetaTensor(torch.empty(0), affine=torch.eye(case.ndim, dtype=torch.float64)) if held is None else held
        boxes: list[Box | None] = [None] * len(self.transforms)
        if Kind.CROPS in self.kinds:
            cut = boxes_of(fed)[-self.kinds.count(Kind.CROPS) :]
            places = [i for i, kind in enumerate(self.kinds) if kind is Kind.CROPS]
            for i, box in zip(places, cut if len(cut) == len(places) else ()):
                boxes[i] = box
            with torch.no_grad():
                self._one(case.detach().as_subclass(Tensor).float(), boxes, like=held)
        return held, boxes

    def _items(self, x: Tensor, like: Any) -> Items:
        parts = x.chunk(len(self.sources)) if len(self.sources) > 1 else (x,)
        if isinstance(like, MetaTensor):
            return {k: MetaTensor(part, affine=like.affine, meta=_space(like)) for k, part in zip(self.sources, parts)}
        return {k: MetaTensor(part) for k, part in zip(self.sources, parts)}

    def _one(
        self, x: Tensor, boxes: list[Box | None] | None = None, *, like: Any = None, again: bool = False, proving: str = ""
    ) -> Tensor:
        """One image (C, \\*S); boxes that are missing, or all of them ``again``, are worked out and left in the list."""
        boxes = self.boxes if boxes is None else boxes
        items = self._items(x, self.held if like is None else like)
        for i, (t, kind) in enumerate(zip(self.transforms, self.kinds)):
            items = dict(apply_pending_transforms_in_order(t, items, self.lazy))
            if kind is Kind.CROPS:
                cropped = self._crop(t, items, None if again else boxes[i])
                if again and boxes[i] is not None:
                    items, boxes[i] = self._crop(t, items, boxes[i])[0], cropped[1]
                else:
                    items, boxes[i] = cropped
                continue
            if proving and kind is Kind.ASKED:
                self._prove(t, items, proving)
            items = self._step(t, kind, items)
        return apply_pending_transforms(items, None)[self.key].as_subclass(Tensor).float()

    def _step(self, t: Any, kind: Kind, items: Items) -> Items:
        if kind is Kind.IDLE:
            return items
        if kind is Kind.SCALES:
            return self._each(t, items, lambda _, x: KNOWN[type(plain(t))](plain(t), x))
        if kind is Kind.TYPES:
            return self._each(t, items, lambda key, x: x if type_for(t, key) is None else x.to(type_for(t, key)).float())
        after = _run(t, items, None if self.dictionary else self.key, self.lazy)
        wanted = any(v.requires_grad for v in items.values()) and torch.is_grad_enabled()
        if wanted and not any(isinstance(v, Tensor) and v.requires_grad for v in after.values()):
            raise NotDifferentiable(f"{name_of(t)} as it is set up passes no gradient; {REMEDY}")
        return after

    def _each(self, t: Any, items: Items, change: Callable[[str, Tensor], Tensor]) -> Items:
        """The items with those that a transform names changed, and the meta of all kept."""
        named = t.keys if isinstance(t, MapTransform) else items
        changed = dict(items)
        for key in named:
            if key in items:
                changed[key] = MetaTensor(change(key, items[key].as_subclass(Tensor))).copy_meta_from(items[key])
        return changed

    def _crop(self, t: Any, items: Items, box: Box | None) -> tuple[Items, Box]:
        cropper, changed = plain(t), dict(items)
        source = getattr(t, "source_key", self.key)
        if box is None:
            if source not in items:
                raise NotDifferentiable(f"{name_of(t)} cuts by {source!r}, and the network's input does not tell where; {REMEDY}")
            box = tuple(map(np.asarray, cropper.compute_bounding_box(items[source].detach())))  # type: ignore[assignment]
        lazy = t.lazy if self.lazy is None else self.lazy
        named = zip(t.keys, t.mode) if isinstance(t, MapTransform) else ((self.key, None),)
        for key, mode in named:
            if key in items:
                changed[key] = cropper.crop_pad(items[key], box[0], box[1], mode=mode, lazy=lazy)  # type: ignore[index]
        return changed, box  # type: ignore[return-value]

    def _prove(self, t: Any, items: Items, called: str) -> None:
        keys = [k for k in (t.keys if isinstance(t, MapTransform) else items) if k in items]
        for key in keys:
            x = items[key]

            def alone(part: Tensor, key: str = key, x: Any = x) -> Tensor:
                after = _run(t, {**items, key: MetaTensor(part).copy_meta_from(x)}, None if self.dictionary else self.key, self.lazy)
                return after[key if key in after else self.key].as_subclass(Tensor).float()

            off = gradient_error(alone, x.detach().as_subclass(Tensor))
            if not off <= SLACK:
                why = "passes no gradient" if off == float("inf") else f"passes a gradient that is off its slope by {off:.0%}"
                raise NotDifferentiable(f"{called}: {name_of(t)} is not known, and {why}; {REMEDY}")


def _alone(transform: Any) -> Any:
    """A dictionary transform that does without the keys that are no image."""
    if not isinstance(transform, MapTransform):
        return transform
    twin = copy.copy(transform)
    twin.allow_missing_keys = True
    return twin


def _run(t: Any, items: Items, key: str | None, lazy: bool | None) -> Items:
    """A transform as it is, of dictionaries or, with a key, of the one image.

    Raises:
        NotDifferentiable: it asks for more than the image, or fails on it.
    """
    try:
        if isinstance(t, CopyItemsd):  # MONAI's copies have no gradient
            return {**items, **{new: items[old] for old, new in zip(t.keys * t.times, t.names) if old in items}}
        how = {"lazy": lazy} if isinstance(t, LazyTrait) else {}
        if key is None:
            return dict(t(dict(items), **how))
        return {**items, key: t(items[key], **how)}
    except Exception as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise NotDifferentiable(f"{name_of(t)} cannot be run on the image alone ({why}); {REMEDY}") from error


def _single(case: Tensor, place: int) -> Tensor:
    """One case of a batch, with an affine of its own where the batch was put together by hand."""
    if isinstance(case, MetaTensor) and case.affine.ndim > 2:
        return MetaTensor(case.as_subclass(Tensor), affine=case.affine[min(place, len(case.affine) - 1)])
    return case


def _space(case: MetaTensor) -> dict[str, Any]:
    return {k: v for k, v in case.meta.items() if k == "space"}
