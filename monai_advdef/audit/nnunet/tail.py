"""What stands between an image and nnU-Net's network, and between its logits and the image, with a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from monai_advdef.audit.nnunet.files import AXES, Axes
from monai_advdef.audit.nnunet.library import own
from monai_advdef.audit.nnunet.normalisation import SCHEMES
from monai_advdef.audit.nnunet.plan import Plan
from monai_advdef.errors import DataError

TOLERANCE = 1e-5  # of the range of the network's input, or of 1 where that is smaller
FAR = 20.0  # the logit of what lies outside the box of nonzero voxels, which nnU-Net calls background
SCALE = "nnunet_scale"  # of an image's metadata: how much of the file's values one unit of each channel is
Box = tuple[slice, ...]


@dataclass(frozen=True)
class _Frame:
    """Where in the image lies what the network was fed: shape in nnU-Net's axes, box, and spacings before and after."""

    shape: tuple[int, ...]
    box: Box
    spacing: list[float]
    target: list[float]


class Tail:
    """``tail(image)`` is what nnU-Net's preprocessing feeds the network, ``tail.back(logits)`` what its export resamples.

    Transposition, crop to nonzero voxels, normalisation and resampling to the spacing of the plans are those of the image that is
    given, as where it is deployed: statistics and mask are its own, and the box follows where an attack has moved it. The gradient
    is exact wherever box and mask stay. What is not the image's own, its spacing, is that of the case that :meth:`hold` was given; a
    batch (B, C, \\*S) holds images of this one case.

    Args:
        plan: of the folder.
    """

    fleeting = ("axes", "scale", "clean", "frames", "_mask")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.follows = True  # a box that an attack moves
        self.axes: Axes | None = None
        self.scale: list[float] = []
        self.clean: Box = ()
        self.frames: list[_Frame] = []
        self._mask: tuple[Tensor, Tensor] | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Images (B, C, \\*S) in image units -> what the network is fed (B, C, \\*N).

        Raises:
            ValueError: no case is held; images that nnU-Net crops to different sizes.
        """
        if isinstance(image, MetaTensor) and SCALE in image.meta:
            self.hold(image)
            image = image.as_tensor()
        made = [self._fed(x) for x in image]
        self.frames = [frame for _, frame in made]
        if len({fed.shape for fed, _ in made}) > 1:
            raise ValueError("nnU-Net crops the images of this batch to different sizes; set batch_size to 1")
        return torch.stack([fed for fed, _ in made])

    def _fed(self, image: Tensor) -> tuple[Tensor, _Frame]:
        x = self.on_axes(image)
        box = nonzero_box(x.detach())
        plan, axes = self.plan, self._held()
        spacing = [axes.spacing[a] for a in plan.forward]
        target = plan.spacing if len(plan.spacing) == 3 else [spacing[0], *plan.spacing]
        frame = _Frame(tuple(x.shape[1:]), box, spacing, target)
        x = self._normalised(cropped(x, box))
        sizes = own("nnunetv2.preprocessing.resampling.default_resampling").compute_new_shape(x.shape[1:], spacing, target)
        return plan.resample(x, [int(n) for n in sizes], spacing, target), frame

    def hold(self, image: Tensor, fed: Tensor | None = None) -> None:
        """Take spacing, axes and units of a clean image (1, C, \\*S) with the metadata that the head gave it.

        Raises:
            ValueError: it has lost them, or there are several cases.
        """
        meta = image.meta if isinstance(image, MetaTensor) else {}
        if AXES not in meta or SCALE not in meta:
            raise ValueError("the image has lost the metadata that tells nnU-Net its spacing; keep it the MetaTensor that was read")
        if len(image) != 1:
            raise ValueError(f"nnU-Net takes one case at a time, got a batch of {len(image)}; set batch_size to 1")
        self.axes, self.scale = Axes.of(_text(meta[AXES])), [float(s) for s in _text(meta[SCALE]).split()]
        self.clean = nonzero_box(self.on_axes(image[0]).detach())

    def require_gradient(self) -> None:
        """Nothing: every part has one."""

    def require_equal(self, image: Tensor, fed: Tensor | None = None, names: str | Sequence[str] = ()) -> None:
        """Hold a clean image (1, C, \\*S), and see that it becomes what nnU-Net's own preprocessing made of it, ``fed``.

        Raises:
            DataError: it does not, to 1e-5 of the range; ``names`` tells the case.
        """
        self.hold(image)
        if fed is None:
            return
        off = self.difference(image, fed)
        if not off <= TOLERANCE:
            name = names if isinstance(names, str) else names[0] if names else "the case"
            raise DataError(
                f"{name}: what the network is fed differs from nnU-Net's own by {off:.2g} of its range, more than {TOLERANCE:g}; "
                "report it with the version of nnunetv2"
            )

    def difference(self, image: Tensor, fed: Tensor) -> float:
        """Largest difference to ``fed`` (1, C, \\*N), as a share of its range (or of 1); infinite where sizes differ."""
        ours, theirs = self(image.detach()), torch.as_tensor(fed).as_subclass(Tensor).float()
        if ours.shape != theirs.shape:
            return float("inf")
        off = float((ours - theirs).abs().max()) / max(1.0, float(theirs.max() - theirs.min()))
        return off if off == off else float("inf")

    def moved(self, image: Tensor) -> list[str]:
        """In words, where nnU-Net crops images (B, C, \\*S) elsewhere than the clean one, and the tail with it."""
        boxes = [nonzero_box(self.on_axes(x).detach()) for x in image]
        return [
            f"nnU-Net crops {told(box)} of this image, {told(self.clean)} of the clean one" for box in boxes if box != self.clean
        ]

    def back(self, logits: Tensor) -> Tensor:
        """Logits on the network's grid (B, K, \\*N) -> on the grid of the image (B, K, \\*S), as nnU-Net resamples them.

        Raises:
            ValueError: other images were fed before, or none.
        """
        if len(self.frames) != len(logits):
            raise ValueError("logits can be brought back to an image only after it has been fed to the network")
        return torch.stack([self._back(x, frame) for x, frame in zip(logits, self.frames)])

    def _back(self, logits: Tensor, frame: _Frame) -> Tensor:
        size = [s.stop - s.start for s in frame.box]
        x = self.plan.resample_back(logits, size, frame.target, frame.spacing)
        if self.plan.half:
            x = x + (x.detach().half().float() - x.detach())
        if size != list(frame.shape):
            whole = x.new_full((len(x), *frame.shape), -FAR)
            if not self.plan.regions:
                whole[0] = FAR
            cropped(whole, frame.box).copy_(x)
            x = whole
        return self._held().to_file(x.permute(0, *(1 + a for a in self.plan.backward)))

    def on_axes(self, image: Tensor) -> Tensor:
        """An image (C, \\*S) in image units as values of the file, (C, a, b, c) in nnU-Net's order of the axes."""
        axes = self._held()
        x = image.as_subclass(Tensor).float()
        if any(s != 1 for s in self.scale):
            x = x * torch.tensor(self.scale, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        return axes.to_reader(x).permute(0, *(1 + a for a in self.plan.forward))

    def inside(self, x: Tensor) -> Tensor | None:
        """The nonzero voxels of (C, a, b, c) with their holes filled, where the plans mask a channel; else nothing.

        They are filled again only where other voxels are nonzero than the last time.
        """
        if not any(self.plan.masked):
            return None
        nonzero = (x.detach() != 0).any(0)
        if self._mask is None or self._mask[0].shape != nonzero.shape or not torch.equal(self._mask[0], nonzero):
            filled = torch.from_numpy(ndimage.binary_fill_holes(nonzero.cpu().numpy()))
            self._mask = (nonzero, filled.to(x.device))
        return self._mask[1]

    @contextmanager
    def holding(self, axes: Axes, scale: list[float]) -> Iterator[None]:
        """Inside, another case is held: its axes, and how much of the file's values one unit of each channel is."""
        before = self.axes, self.scale
        self.axes, self.scale = axes, scale
        try:
            yield
        finally:
            self.axes, self.scale = before

    def _normalised(self, x: Tensor) -> Tensor:
        mask = self.inside(x)
        parts = zip(x, self.plan.schemes, self.plan.masked, self.plan.intensities)
        return torch.stack([SCHEMES[name](part, mask if masked else None, known) for part, name, masked, known in parts])

    def _held(self) -> Axes:
        if self.axes is None:
            raise ValueError("nnU-Net's tail must know the spacing of the case; give the clean image to require_equal() first")
        return self.axes


def nonzero_box(x: Tensor) -> Box:
    """The box of voxels (C, a, b, c) where any channel is not 0; everything where none is."""
    inside = (x != 0).any(0)
    if not bool(inside.any()):
        return tuple(slice(0, s) for s in inside.shape)
    lines = (inside.amax([a for a in range(inside.ndim) if a != axis]).nonzero().flatten() for axis in range(inside.ndim))
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def cropped(x: Tensor, box: Box) -> Tensor:
    """A box of every channel, as a view."""
    return x[(slice(None),) + box]


def told(box: Sequence[slice]) -> str:
    """``"0:10 2:30 0:5"``."""
    return " ".join(f"{s.start}:{s.stop}" for s in box)


def _text(value: object) -> str:
    """A text in metadata, alone or of a batch of one."""
    return str(value[0] if isinstance(value, (list, tuple)) else value)
