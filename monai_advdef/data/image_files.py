"""Opening image and mask files to see whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from monai_advdef.data.pictures.masks import mask_values
from monai_advdef.data.pictures.read import image_size, shown
from monai_advdef.data.pictures.stored import TURN, Stored, load
from monai_advdef.errors import DataError

SHAPE = 0.02  # by how much the ratio of the sides may differ where a mask is only another size
FEW = 8  # values in a mask up to which they are rather class numbers than soft edges

__all__ = ["check_pair", "image_size", "inspect_pair", "read_grey"]


def check_pair(pair: Mapping[str, str], *, classes: int = 2) -> None:
    """Open both files of a pair and raise a :class:`DataError` if it cannot be used.

    Both must decode to the end and have the same size as shown; the image must be one that :func:`read_picture` reads, the mask one
    of :func:`read_mask` that holds only the class numbers 0..classes-1, or 0 and 255 where there are two classes.
    """
    inspect_pair(pair, classes=classes)


def inspect_pair(pair: Mapping[str, str], *, classes: int = 2) -> list[str]:
    """:func:`check_pair`, with what is worth telling of the image: how it is turned, what is done with its colours."""
    image, mask = pair["image"], pair["label"]
    picture, drawing = load(image, shrink=True), load(mask)
    _, told = shown(image, picture)
    drawn = mask_values(mask, drawing)
    levels = np.unique(drawn).tolist()
    if picture.size != drawing.size:
        raise DataError(_sizes(image, picture, mask, drawing))
    if not (set(levels) <= set(range(classes)) or (classes == 2 and set(levels) <= {0, 255})):
        raise DataError(
            f"{mask} holds the values {levels[:6]}{'...' if len(levels) > 6 else ''}; a mask holds "
            f"{'0 and 255, or 0 and 1' if classes == 2 else f'class numbers 0..{classes - 1}'}; {_remedy(levels)}"
        )
    turned = "carry an orientation tag and are turned as a viewer shows them: so must their masks be drawn"
    around = "have masks that are drawn all along the border but not within: what is drawn may be the background, which --values "
    around += f"0=1,{levels[-1]}=0 turns round"
    return [turned] * (picture.orientation > 1) + [told] * bool(told) + [around] * (classes == 2 and _around(drawn))


def _remedy(levels: list[int]) -> str:
    """What is to be done with a mask of other values: few are a matter of meaning, many of how it was stored."""
    if len(levels) <= FEW:
        return f"say by --values what each of {', '.join(map(str, levels))} means (stored value=class number)"
    return (
        "if it went through JPEG or a smooth resize, make it again from the original and save it as PNG, or cut it in the middle by "
        "--values 0-127=0,128-255=1"
    )


def _around(drawn: np.ndarray) -> bool:
    """Whether a mask is drawn on all four sides of the picture, but not everywhere."""
    sides = (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1])
    return all(side.all() for side in sides) and not drawn.all()


def _sizes(image: str, picture: Stored, mask: str, drawing: Stored) -> str:
    """What is wrong with two sizes, and the remedy: another one where an orientation tag explains it."""
    (width, height), (wide, high) = picture.size, drawing.size
    found = f"{image} is {width}x{height} pixels and its mask {mask} is {wide}x{high}"
    if picture.orientation > 1 and drawing.size == picture.raw_size:
        return (
            f"{found}: the image carries the orientation tag {picture.orientation} and the mask is drawn on the pixels as they are "
            f"stored; turn the mask as viewers turn the image: from PIL import Image; i = Image.open({mask!r}); "
            f"i.transpose(Image.Transpose.{TURN[picture.orientation].name}).save({mask!r})"
        )
    if drawing.orientation > 1 and drawing.raw_size == picture.size:
        return f"{found}: the mask carries the orientation tag {drawing.orientation} and the image none; remove the tag of the mask"
    if (wide, high) == (height, width):
        return f"{found}: one of them is turned or mirrored at its diagonal; look at both, and turn the one that is not upright"
    if abs(wide * height - high * width) > SHAPE * high * width:
        return (
            f"{found}, another shape: one is cut, or they do not belong together; draw the mask on this image, or fetch both again"
        )
    return f"{found}; draw or resize the mask (nearest neighbour) at the size of the image"


def read_grey(path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """The pixels ``(height, width)`` of an image file as 8-bit grey as a viewer shows them, and its stored mode.

    The mode of a file that an orientation tag turns is ``"turned"``. Raises a :class:`DataError` as :func:`read_picture` does.
    """
    stored = load(path)
    return np.asarray(shown(path, stored)[0].convert("L")), stored.image.mode if stored.orientation == 1 else "turned"
