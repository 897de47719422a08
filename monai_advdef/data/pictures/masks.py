"""Mask files: one class number a pixel, whatever the file stores it in, or a refusal in words."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from monai_advdef.data.pictures.colour import opaque
from monai_advdef.data.pictures.stored import DEEP_MODES, Stored, load
from monai_advdef.errors import DataError

AS_GREY = "save it as 8-bit grey"


def _unclear(path: str) -> str:
    """What is to be done with a mask that has transparent pixels."""
    return (
        "of which nothing says whether they belong to the structure; where it is what is not transparent: from PIL import Image, "
        f"ImageOps; ImageOps.exif_transpose(Image.open({path!r})).convert('RGBA').getchannel('A').save({path!r}); else {AS_GREY}"
    )


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """The values ``(height, width)`` uint8 of a mask file, upright: class numbers, or 0 and 255.

    Of a palette the indices are the values, as in PASCAL VOC, unless only black and white are shown: then these are. A colour file
    whose channels are equal is grey. Of more than 8 bits, whole numbers up to 255 are values, and 0 and 65535 are 0 and 255.

    Raises:
        DataError: what :func:`load` refuses, colours, transparent pixels, numbers that are no class, or a palette whose indices say
            the opposite of its colours.
    """
    return mask_values(path, load(path))


def mask_values(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """The values of a decoded mask file, see :func:`read_mask`."""
    image = stored.image
    if stored.deep:
        return _deep(str(path), image)
    if image.has_transparency_data and image.mode != "P":
        image = opaque(image, str(path), _unclear(str(path)))
    if image.mode == "P":
        return _palette(str(path), image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    channels = np.asarray(image)
    if image.mode in ("RGB", "RGBX") and (channels[..., :1] == channels[..., :3]).all():
        return channels[..., 0]
    raise DataError(
        f"{path} has pixels of kind {image.mode!r} in colours, not one 8-bit channel of class numbers; {AS_GREY}, 0 and 255 or the "
        "number of the class"
    )


def _palette(path: str, image: Image.Image) -> np.ndarray:
    indices = np.asarray(image)
    used, first = np.unique(indices, return_index=True)
    if image.has_transparency_data:
        opaque(image, path, _unclear(path))
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)[first]
    if not np.isin(colours, (0, 255)).all() or (colours != colours[:, :1]).any():
        return indices
    white = colours[:, 0] > 0
    if not (set(used.tolist()) <= {0, 1} or set(used.tolist()) <= {0, 255}):
        return np.where(np.isin(indices, used[white]), np.uint8(255), np.uint8(0))
    opposite = white != (used > 0)
    if opposite.any():
        number = used[opposite][0]
        raise DataError(
            f"{path} has a palette that shows the number {number} as {'black' if number else 'white'}: its numbers say the opposite "
            "of what is seen; where what is seen is right: from PIL import Image, ImageOps; "
            f"ImageOps.exif_transpose(Image.open({path!r})).convert('L').save({path!r}); where the numbers are, {AS_GREY} with them"
        )
    return indices


def _deep(path: str, image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode in DEEP_MODES:
        levels = np.unique(values)
        if set(levels.tolist()) <= {0, 65535}:
            return np.where(values > 0, np.uint8(255), np.uint8(0))
        if (levels == np.rint(levels)).all() and 0 <= levels[0] and levels[-1] <= 255:
            return values.astype(np.uint8)
        what = f"the values {', '.join(f'{level:g}' for level in levels[:6])}{', ...' if len(levels) > 6 else ''}"
    else:
        what = "colours"
    raise DataError(f"{path} has more than 8 bits a pixel and holds {what}; {AS_GREY}, 0 and 255 or the number of the class")
