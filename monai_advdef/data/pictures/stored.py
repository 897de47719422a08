"""A picture file decoded to its end and turned upright, in the colour model that it is stored in.

What the content is decides, not what the file is called. Orientation tags (EXIF, XMP, TIFF) turn the picture as viewers do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from monai_advdef.data.pictures.contents import content, head_of
from monai_advdef.errors import DataError

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "TIFF", "GIF", "WEBP")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N", "I;12")
TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION, SUBFILE, WIDTH, HEIGHT, BITS, PHOTOMETRIC = 274, 254, 256, 257, 258, 262  # tags of TIFF, the first also of EXIF
DEPTH_OF_PNG = 24  # the place of the byte that says how many bits a channel of a PNG file has


@dataclass(frozen=True)
class Stored:
    """A decoded picture file.

    ``image`` is upright; its pixels may be shrunk where that was asked for. ``size`` (width, height) is as shown, ``raw_size`` as
    stored; ``orientation`` (1..8) is what the tag says, 1 where there is none. ``kind`` is the format by content, and ``deep`` says
    that it has more than 8 bits a channel; ``white_is_zero`` that the numbers of such a file count from white.
    """

    image: Image.Image
    kind: str
    size: tuple[int, int]
    raw_size: tuple[int, int]
    orientation: int
    deep: bool
    white_is_zero: bool


def load(path: str | os.PathLike[str], *, shrink: bool = False) -> Stored:
    """Decode a picture file to its end; ``shrink`` takes libjpeg's fast way, which sees whether it can be, but gives fewer pixels.

    Raises:
        DataError: a file that cannot be opened, that cannot be read to its end, or that holds several pages.
    """
    name = str(path)
    head = head_of(name)
    try:
        # from an open file: of one given by its path Pillow maps plain TIFF pixels into memory, and then turns them wrongly
        with open(path, "rb") as opened, Image.open(opened) as file:
            if file.format in FORMATS:
                return _load(file, name, head, shrink)
            kind = file.format
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is larger than a picture may be ({error}); cut or shrink it") from error
    except Exception as error:  # a broken file makes decoders raise whatever they stumble over
        unknown = isinstance(error, UnidentifiedImageError)
        what = (content(head) or f"it is none of {', '.join(FORMATS)}, or damaged at its begin") if unknown else ""
        remedy = "save it as 8-bit PNG from a program that reads it, fetch it again" if what else "fetch it again"
        raise DataError(f"{name} cannot be read as an image ({what or error}); {remedy} or remove the pair") from error
    raise DataError(f"{name} is a {kind} file, whatever its name says; save it as PNG")


def _load(file: Any, path: str, head: bytes, shrink: bool) -> Stored:
    tags = dict(file.tag_v2) if file.format == "TIFF" else {}
    orientation = _orientation(file)
    size = raw_size = file.size
    if tags:
        raw_size = (tags[WIDTH], tags[HEIGHT])  # Pillow turns TIFF files itself
    elif orientation > 4:
        size = raw_size[::-1]
    bits = max(tags.get(BITS, (1,))) if tags else head[DEPTH_OF_PNG] if file.format == "PNG" else 8
    _one_page(file, path)
    if shrink:
        file.draft(None, (1, 1))
    file.load()
    image = file.copy()
    if orientation > 1 and not tags:
        image = image.transpose(TURN[orientation])
    deep = bits > 8 or image.mode in DEEP_MODES
    return Stored(image, file.format, size, raw_size, orientation, deep, deep and tags.get(PHOTOMETRIC) == 0)


def _orientation(file: Any) -> int:
    """What the tag says; 1 where it is none of the eight or the metadata are broken, which viewers pass over."""
    if file.format == "PNG":
        file.load()  # the tag may stand behind the pixels
    try:
        value = file.getexif().get(ORIENTATION, 1)
    except Exception:  # broken metadata make the parser raise whatever it stumbles over
        return 1
    return value if value in TURN else 1


def _one_page(file: Any, path: str) -> None:
    """Refuse several pages or frames; reduced copies of the first page, and what a camera hides behind a JPEG, are no pages."""
    pages = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
    if pages > 1 and file.format == "TIFF":
        full = []
        for page in range(pages):
            file.seek(page)
            full.append(not file.tag_v2.get(SUBFILE, 0) & 1)
        file.seek(0)
        pages = 1 if full[0] and sum(full) == 1 else pages
    if pages > 1:
        raise DataError(
            f"{path} holds {pages} pages or frames, of which viewers show the first; save each that is meant as a file of its own"
        )
