"""Opening image and mask files to see whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from PIL import Image

from monai_advdef.errors import DataError


def check_pair(pair: Mapping[str, str], *, classes: int = 2) -> None:
    """Open both files of a pair and raise a :class:`DataError` if it cannot be used.

    Both must decode to the end and have the same size; the image must be grey or RGB, with or without alpha, 8 bits a channel;
    the mask must have one channel and hold only the class numbers 0..classes-1, or 0 and 255 where there are two classes.
    """
    image, mask = pair["image"], pair["label"]
    picture, drawing = _decode(image, shrink=True), _decode(mask, shrink=False)
    if picture["mode"] not in ("L", "LA", "RGB", "RGBA"):
        raise DataError(
            f"{image} has pixels of kind {picture['mode']!r}; save it as 8-bit grey or RGB (Pillow: image.convert('RGB'))"
        )
    if drawing["mode"] not in ("1", "L", "P"):
        raise DataError(f"{mask} has pixels of kind {drawing['mode']!r}, not one 8-bit channel; save it as 8-bit grey")
    if picture["size"] != drawing["size"]:
        raise DataError(
            f"{image} is {picture['size'][0]}x{picture['size'][1]} pixels and its mask {mask} is "
            f"{drawing['size'][0]}x{drawing['size'][1]}; draw or resize the mask (nearest neighbour) at the size of the image"
        )
    values = drawing["values"]
    if not (set(values) <= set(range(classes)) or (classes == 2 and set(values) <= {0, 255})):
        raise DataError(
            f"{mask} holds the values {values[:6]}{'...' if len(values) > 6 else ''}; a mask holds "
            f"{'0 and 255, or 0 and 1' if classes == 2 else f'class numbers 0..{classes - 1}'}; "
            "if it went through JPEG or a smooth resize, make it again from the original and save it as PNG"
        )


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file that decodes to its end; a :class:`DataError` otherwise."""
    return _decode(str(path), shrink=True)["size"]


def read_grey(path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """The pixels ``(height, width)`` of an image file as 8-bit grey, and its stored mode; a :class:`DataError` otherwise."""
    _decode(str(path), shrink=True)
    with Image.open(path) as file:
        return np.asarray(file.convert("L")), file.mode


def _decode(path: str, *, shrink: bool) -> dict:
    """Size, mode and (where not ``shrink``) the values of an image file, decoded to its end; ``shrink`` is libjpeg's fast way."""
    if os.path.getsize(path) == 0:
        raise DataError(f"{path} is empty (0 bytes); fetch it again or remove the pair")
    try:
        with Image.open(path) as file:
            found: dict = {"size": file.size, "mode": file.mode}
            if shrink:
                file.draft(None, (1, 1))
            file.load()
            if not shrink and file.mode in ("1", "L", "P"):
                found["values"] = [value for value, count in enumerate(file.histogram()) if count]
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); fetch it again or remove the pair") from error
    return found
