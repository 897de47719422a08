"""A case of a distributed data set as pixels: raw files read, soft maps cut, sizes made equal, stereo pictures halved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.image_files import image_size, read_grey
from monai_advdef.data.layouts.core import Layout
from monai_advdef.data.listing import Entry
from monai_advdef.errors import DataError

SLACK = 0.01  # by how much of its size a mask may differ from its image and still be stretched to it


@dataclass(frozen=True)
class Case:
    """One decoded case.

    ``box`` is the part (left, top, right, bottom) of the image file that is the case; ``masks`` are 0/255 arrays
    ``(height, width)`` of that part, the disc's, lesion's or lungs' first, then the cup's if there is one; ``kept`` says for each
    whether its file holds exactly these pixels; ``stretched`` whether a mask was not of the size of its image. ``pixels`` is the
    image where its file is no image file, ``multi`` the class numbers of the single structures where the data set has them.
    """

    box: tuple[int, int, int, int]
    masks: list[np.ndarray]
    kept: list[bool]
    stretched: bool
    pixels: np.ndarray | None = None
    multi: np.ndarray | None = None


def decode(entry: Entry, layout: Layout) -> Case:
    """The pixels of one entry.

    Raises:
        DataError: a file that cannot be read, a mask with unexpected grey levels or of another size, an empty mask of a stereo
            picture, or one on both of its halves.
    """
    pixels = None if layout.image_pixels is None else layout.image_pixels(entry.image)
    size = image_size(entry.image) if pixels is None else (pixels.shape[1], pixels.shape[0])
    masks, kept, stretched = [], [], False
    for path in [path for path in (entry.mask, entry.cup) if path is not None]:
        mask, unchanged, fits = _binary(path, layout, size, entry.image)
        stretched |= not fits
        masks.append(mask)
        kept.append(unchanged and not entry.half)
    if entry.also is not None:
        masks[0], kept[0] = masks[0] | _binary(entry.also, layout, size, entry.image)[0], False
    multi = np.zeros_like(masks[0])
    for number, path in reversed(list(enumerate(entry.multi, start=1))):
        multi[_binary(path, layout, size, entry.image)[0] > 0] = number
    box = _half(masks[0], entry.mask) if entry.half else (0, 0, *size)
    left, _, right, _ = box
    return Case(box, [mask[:, left:right] for mask in masks], kept, stretched, pixels, multi if entry.multi else None)


def _binary(path: Path, layout: Layout, size: tuple[int, int], image: Path) -> tuple[np.ndarray, bool, bool]:
    """A mask file as 0/255 at the ``size`` of its image, whether it holds exactly these pixels, and whether it is of that size."""
    grey, mode = read_grey(path)
    levels = np.unique(grey).tolist()
    odd = [level for level in levels if level not in layout.levels]
    if layout.levels and odd:
        raise DataError(
            f"{path} holds the grey levels {odd[:6]}{'...' if len(odd) > 6 else ''}; a mask of {layout.title} holds "
            f"{', '.join(map(str, layout.levels))} only: fetch the original file again (no resize, no JPEG)"
        )
    mask = np.where(grey >= layout.threshold, np.uint8(255), np.uint8(0))
    fits = mask.shape == size[::-1]
    if not fits:
        mask = _stretch(mask, size, path, image)
    return mask, fits and mode == "L" and set(levels) <= {0, 255}, fits


def _stretch(mask: np.ndarray, size: tuple[int, int], path: Path, image: Path) -> np.ndarray:
    height, width = mask.shape
    if abs(width - size[0]) > SLACK * size[0] or abs(height - size[1]) > SLACK * size[1]:
        raise DataError(
            f"{path} is {width}x{height} pixels and {image} is {size[0]}x{size[1]}; they do not belong together: fetch both again"
        )
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _half(mask: np.ndarray, path: Path) -> tuple[int, int, int, int]:
    """The half of a stereo picture that the mask lies on."""
    height, width = mask.shape
    middle = width // 2
    left, right = bool(mask[:, :middle].any()), bool(mask[:, middle:].any())
    if left == right:
        raise DataError(
            f"{path} {'lies on both halves of the stereo picture' if left else 'is empty'}; draw it on one half, or remove the case"
        )
    return (0, 0, middle, height) if left else (middle, 0, width, height)
