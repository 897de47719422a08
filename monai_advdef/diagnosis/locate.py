"""Where the optic disc is in a mask, and the square of the image around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


@dataclass(frozen=True)
class Disc:
    """The largest connected piece of a mask, in pixels; of an empty mask the centre of the image, without size.

    ``centre`` is the centroid (first axis, second axis), ``extent`` how many pixels of each axis the piece spans, ``diameter`` that
    of the circle of its area.
    """

    found: bool
    centre: tuple[float, float]
    extent: tuple[int, int]
    diameter: float

    def distance(self, other: Disc) -> float:
        """Between the two centres, in pixels."""
        return math.dist(self.centre, other.centre)


def find_disc(mask: Tensor) -> Disc:
    """The :class:`Disc` of a mask ``(W, H)``, true or positive where the disc is; pieces touch by their edges (4-neighbours)."""
    marked = mask.detach().cpu().numpy() > 0
    pieces, count = ndimage.label(marked)
    if count == 0:
        first, second = ((side - 1) / 2 for side in marked.shape)
        return Disc(False, (first, second), (0, 0), 0.0)
    sizes = np.bincount(pieces.ravel())[1:]
    piece = int(sizes.argmax()) + 1
    first, second = (float(c) for c in ndimage.center_of_mass(pieces == piece))
    across, along = (s.stop - s.start for s in ndimage.find_objects(pieces)[piece - 1])
    return Disc(True, (first, second), (across, along), 2 * math.sqrt(sizes[piece - 1] / math.pi))


def square_crop(image: Tensor, centre: Sequence[float], side: int) -> Tensor:
    """The square of an image ``(C, W, H)`` whose pixel ``side // 2`` is the one nearest to ``centre``; beyond the border the image's
    edge is repeated."""
    first, second = (
        (torch.arange(side, device=image.device) + math.floor(c + 0.5) - side // 2).clamp(0, n - 1)
        for c, n in zip(centre, image.shape[1:])
    )
    return image[:, first][:, :, second]


class DiscCropper:
    """Cuts the square around a disc and brings it to the size that the networks read.

    Args:
        side: of the crop given out, in pixels. Paper 000's predecessor cut 550 of about 2000 pixels (Agrawal et al., arXiv
            1809.05216); images of 256 pixels, whose discs are 60 wide, are cut to 96.
        disc_diameters: side of the square in diameters of the disc, resized to ``side``; ``None`` (or an empty mask) cuts ``side``.

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, *, side: int = 96, disc_diameters: float | None = None) -> None:
        if side < 1 or (disc_diameters is not None and disc_diameters <= 0):
            raise ValueError(
                f"side and disc_diameters must be positive, got {side} pixels and {disc_diameters}; use e.g. 96 and null"
            )
        self.side, self.disc_diameters = side, disc_diameters

    def cut(self, disc: Disc) -> int:
        """Side of the square in pixels of the image."""
        if self.disc_diameters is None or not disc.found:
            return self.side
        return max(1, round(self.disc_diameters * disc.diameter))

    def __call__(self, image: Tensor, disc: Disc, *, mode: str = "bilinear") -> Tensor:
        """The crop ``(C, side, side)`` of an image ``(C, W, H)`` around ``disc``."""
        crop = square_crop(image, disc.centre, self.cut(disc))
        if crop.shape[-1] == self.side:
            return crop
        options = {} if mode == "nearest" else {"antialias": True}
        return torch.nn.functional.interpolate(crop[None].float(), (self.side, self.side), mode=mode, **options)[0]
