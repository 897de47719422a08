"""The end of a preprocessing, from its first intensity transform on, as a differentiable part of the victim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, MapTransform
from monai.transforms.lazy.functional import apply_pending_transforms, apply_pending_transforms_in_order
from torch import Tensor, nn

from monai_advdef.audit.tail.boxes import Box, boxes_of, same, told
from monai_advdef.audit.tail.kinds import REMEDY, Kind, NotDifferentiable, flat, kind_of, name_of, plain, told_apart, type_for
from monai_advdef.audit.tail.steps import Items, alone, box_of, cropped, require_slope, single, space, stepped
from monai_advdef.types import Images

TOLERANCE = 1e-5  # of the range of the network's input, or of 1 where that is smaller


@dataclass
class Grid:
    """Where the clean images lie: an empty image with their affine, their size, and the boxes that are cut behind and in front."""

    like: MetaTensor
    size: tuple[int, ...]
    boxes: list[Box | None]  # of each transform of the tail
    before: list[list[Box]]  # of each image, what the crops of the head would cut of it now


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
        self.transforms = [alone(t) for t in flat(transforms)]
        self.dictionary = dictionary or any(isinstance(t, MapTransform) for t in self.transforms)
        self.kinds = [kind_of(t) for t in self.transforms]
        self.spatial = any(kind in (Kind.SHAPES, Kind.CROPS, Kind.ASKED) for kind in self.kinds)
        self.crops_before: list[Any] = []  # by the image's values, in the head
        self.held_grid: Grid | None = None

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
        every = [self._geometry(single(case, i), None if fed is None else fed[i]) for i, case in enumerate(image)]
        held, boxes = every[0]
        for other, others in every[1:]:
            alike = torch.equal(other.affine, held.affine) and all(map(same, boxes, others))
            if self.spatial and not alike:
                raise ValueError(
                    "cases of one batch lie on different grids, or are cropped elsewhere; give them one by one: batch_size 1"
                )
        self.held_grid = Grid(held, tuple(image.shape[1:]), boxes, [self._before(case) for case in image.detach()])

    def require_gradient(self) -> None:
        """Raise ``NotDifferentiable`` for a transform to whole numbers, which rounds, and one that finds the channels too late."""
        for i, (t, kind) in enumerate(zip(self.transforms, self.kinds)):
            if type(plain(t)) is EnsureChannelFirst and (other := told_apart(self.transforms[:i])) is not None:
                raise NotDifferentiable(
                    f"{name_of(t)} stands behind {name_of(other)}, which tells channels apart already; put it before, or {REMEDY}"
                )
            dtype = type_for(t, self.key) if kind is Kind.TYPES else None
            if dtype is not None and not dtype.is_floating_point:
                behind = f" behind {name_of(self.transforms[0])}" if i else ""
                raise NotDifferentiable(f"{name_of(t)} to {dtype}{behind} rounds to whole numbers, which has no gradient; {REMEDY}")

    def moved(self, image: Images) -> list[str]:
        """In words, where the deployed chain would crop these images (B, C, \\*S) elsewhere than the clean one; mostly nothing."""
        words: list[str] = []
        grid = self._require_held(image)
        for case, before in zip(image.detach().as_subclass(Tensor).float(), grid.before):
            pairs = zip(self.crops_before, before, self._before(case))
            words += [f"{name_of(t)} in front of it {_elsewhere(held, now)}" for t, held, now in pairs if not same(held, now)]
            boxes = list(grid.boxes)
            self._one(case, boxes, again=True)
            for t, held, now in zip(self.transforms, grid.boxes, boxes):
                if not same(held, now):
                    words.append(f"{name_of(t)} {_elsewhere(held, now)}")
        return words

    def as_deployed(self, case: Images) -> Tensor:
        """What MONAI's own transforms make of one image (C, \\*S), in float32; without a gradient."""
        with torch.no_grad():
            items = self._items(case.detach().as_subclass(Tensor).float().clone(), single(case, 0))
            out = Compose(self.transforms, lazy=self.lazy)(items if self.dictionary else items[self.key])
            return torch.as_tensor(out[self.key] if self.dictionary else out).as_subclass(Tensor).float()

    def difference(self, image: Images, fed: Images | None = None) -> float:
        """Largest difference to what MONAI's transforms make of these images, as a share of the range of their output (or of 1).

        ``fed`` (B, C', \\*S') is what the deployed chain made of them; without it MONAI's transforms are run here. Infinite where
        sizes differ.
        """
        worst = 0.0
        for i, ours in enumerate(self(image.detach())):
            theirs = self.as_deployed(single(image[i], i)) if fed is None else fed[i].detach().as_subclass(Tensor).float()
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
            if self.spatial:
                self._one(image[i].detach().as_subclass(Tensor).float().requires_grad_(), proving=called)

    def _require_held(self, image: Images) -> Grid:
        if self.held_grid is None and (isinstance(image, MetaTensor) or not self.spatial):
            self.hold(image)
        grid = self.held_grid
        if grid is None:
            raise ValueError("a tail that moves voxels must know their grid; give the clean image to require_equal() first")
        held = grid.like.affine
        here = single(image[0], 0).affine.to(held) if isinstance(image, MetaTensor) else held  # type: ignore[attr-defined]
        if tuple(image.shape[1:]) != grid.size or here.shape != held.shape or not torch.allclose(here, held):
            raise ValueError(
                f"images {tuple(image.shape)} are not on the grid that is held, {grid.size}; give the clean images of the batch to "
                "require_equal() before its attack"
            )
        return grid

    def _geometry(self, case: Tensor, fed: Tensor | None) -> tuple[MetaTensor, list[Box | None]]:
        if isinstance(case, MetaTensor):
            held = MetaTensor(torch.empty(0), affine=case.affine, meta=space(case))
        else:
            held = MetaTensor(torch.empty(0), affine=torch.eye(case.ndim, dtype=torch.float64))
        boxes: list[Box | None] = [None] * len(self.transforms)
        if Kind.CROPS in self.kinds:
            cut = boxes_of(fed)[-self.kinds.count(Kind.CROPS) :]
            places = [i for i, kind in enumerate(self.kinds) if kind is Kind.CROPS]
            for i, box in zip(places, cut if len(cut) == len(places) else ()):
                boxes[i] = box
            with torch.no_grad():
                self._one(case.detach().as_subclass(Tensor).float(), boxes, like=held)
        return held, boxes

    def _before(self, case: Tensor) -> list[Box]:
        return [box_of(t, {self.key: case.as_subclass(Tensor)}, self.key) for t in self.crops_before]

    def _items(self, x: Tensor, like: Any) -> Items:
        parts = x.chunk(len(self.sources)) if len(self.sources) > 1 else (x,)
        if not self.spatial:
            return dict(zip(self.sources, parts))
        about: dict[str, Any] = {"affine": like.affine, "meta": space(like)} if isinstance(like, MetaTensor) else {}
        return {k: MetaTensor(part, **about) for k, part in zip(self.sources, parts)}

    def _one(
        self, x: Tensor, boxes: list[Box | None] | None = None, *, like: Any = None, again: bool = False, proving: str = ""
    ) -> Tensor:
        """One image (C, \\*S); boxes that are missing, or all of them ``again``, are worked out and left in the list."""
        grid = self.held_grid
        boxes = boxes if boxes is not None else grid.boxes if grid is not None else [None] * len(self.transforms)
        items = self._items(x, grid.like if like is None and grid is not None else like)
        for i, (t, kind) in enumerate(zip(self.transforms, self.kinds)):
            items = dict(apply_pending_transforms_in_order(t, items, self.lazy))
            if kind is Kind.CROPS:
                held = boxes[i]
                if held is None or (again and getattr(t, "source_key", self.key) in items):
                    boxes[i] = box_of(t, items, self.key)
                items = cropped(t, items, held or boxes[i], self.key, self.lazy)
                continue
            if proving and kind is Kind.ASKED:
                require_slope(t, items, self.key, self.dictionary, self.lazy, proving)
            items = stepped(t, kind, items, self.key, self.dictionary, self.lazy)
        return apply_pending_transforms(items, None)[self.key].as_subclass(Tensor).float()


def _elsewhere(held: Box | None, now: Box | None) -> str:
    return f"would cut {told(now)} of this image, where it cuts {told(held)} of the clean one"
