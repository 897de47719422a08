"""The one reader of image files: pixels as a viewer shows them, or a refusal in words.

Palettes, print colours and embedded colour profiles become grey or RGB, see :mod:`colour`; more than 8 bits, and pixels that let the
background shine through, are refused: what they look like is a choice that people make.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from monai_advdef.data.pictures.colour import plain
from monai_advdef.data.pictures.eight_bits import refusal
from monai_advdef.data.pictures.stored import Stored, load
from monai_advdef.errors import DataError


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels ``(height, width, channels)`` of an image file as a viewer shows them: 8 bits, grey (1 channel) or RGB (3).

    Raises:
        DataError: a file that cannot be read to its end, or that holds several pages, more than 8 bits a channel or transparent
            pixels; naming file and remedy.
    """
    return np.atleast_3d(np.asarray(shown(path, load(path))[0]))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height as shown of an image file; a :class:`DataError` where :func:`read_picture` would raise it."""
    stored = load(path, shrink=True)
    shown(path, stored)
    return stored.size


def shown(path: str | os.PathLike[str], stored: Stored) -> tuple[Image.Image, str]:
    """A decoded file as ``L`` or ``RGB``, and what was done with its colours in words; raises as :func:`read_picture`."""
    if stored.deep:
        raise DataError(refusal(path, stored))
    return plain(stored.image, str(path))
