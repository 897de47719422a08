"""Colours as a viewer shows them: profiles applied, print colours and palettes made RGB, alpha that hides nothing dropped."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from monai_advdef.errors import DataError

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # what an embedded profile calls the colours of a Pillow mode
GAMMA = 1 / 2.2  # what a PNG file writes as its gamma where its numbers are those of sRGB
SAME = 2  # grey levels by which a profile may differ from sRGB and still count as it: sRGB profiles differ by rounding


def plain(image: Image.Image, path: str) -> tuple[Image.Image, str]:
    """An 8-bit image of any colour model as ``L`` or ``RGB``, and what was done with its colours in words (empty: nothing to tell).

    Raises:
        DataError: pixels that let the background shine through, whose colour is the viewer's choice; a colour model that is not
            told apart (Lab).
    """
    profile, gamma = image.info.get("icc_profile"), _gamma(image)
    palette = image.mode in ("P", "PA")
    if image.has_transparency_data:
        image = opaque(image, path)
    if image.mode in ("P", "YCbCr", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in SPACES:
        raise DataError(
            f"{path} has pixels of kind {image.mode!r}, which viewers show in different colours; save it as 8-bit grey or RGB "
            "from the program that made it"
        )
    transform = _to_srgb(profile, image.mode) if profile else None
    if transform is not None:
        told = "carry a colour profile other than sRGB and are shown by it"
        managed = ImageCms.applyTransform(image, transform)
        assert managed is not None  # it is not asked to work in place
        image = managed.getchannel(1) if image.mode == "L" else managed
    else:
        told = "have print colours (CMYK) without a profile and are shown by the plain formula" if image.mode == "CMYK" else gamma
        image = image.convert("RGB") if image.mode == "CMYK" else image
    return (_grey_if_equal(image) if palette else image), told


def _gamma(image: Image.Image) -> str:
    """What to tell of the gamma value of a PNG file, where it is another than that of sRGB and nothing stands above it."""
    told = image.info.get("gamma")
    if told is None or image.info.keys() & {"srgb", "icc_profile"} or abs(told - GAMMA) < 0.01:
        return ""
    return "carry another gamma value than sRGB's, by which some viewers change them; the numbers are taken as they are stored"


def opaque(image: Image.Image, path: str, remedy: str = "") -> Image.Image:
    """The image without its alpha channel or transparent colour; a :class:`DataError` where a pixel is not opaque.

    ``remedy``: what the error says is to be done, in place of laying the picture on a white background.
    """
    full = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    low, _ = full.getchannel("A").getextrema()
    if low < 255:  # type: ignore[operator]
        remedy = remedy or (
            "whose colour is that of the viewer's background; lay it on the one that is meant, here white: "
            f"from PIL import Image, ImageOps; i = ImageOps.exif_transpose(Image.open({path!r})).convert('RGBA'); "
            f"Image.alpha_composite(Image.new('RGBA', i.size, 'white'), i).convert('RGB').save({path!r})"
        )
        raise DataError(f"{path} has transparent pixels, {remedy}")
    if image.mode in ("LA", "La", "L", "1"):
        return full.getchannel("R")
    return full.convert("RGB")


def _grey_if_equal(image: Image.Image) -> Image.Image:
    if image.mode != "RGB":
        return image
    red, green, blue = (np.asarray(channel) for channel in image.split())
    return image.getchannel(0) if np.array_equal(red, green) and np.array_equal(green, blue) else image


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; ``None`` where it changes nothing, or is broken or another colour model's, so passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        exact = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE  # its shortcut misses dark greys by 10 levels
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=exact)
        chart = _chart(mode)
        shown = ImageCms.applyTransform(chart, transform)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if shown is None or mode == "CMYK":
        return transform
    change = np.abs(np.asarray(shown, int) - np.asarray(chart.convert("RGB"), int)).max()
    return None if change <= SAME else transform


def _chart(mode: str) -> Image.Image:
    """Every grey, or 6x6x6 colours: what a profile is tried on."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return Image.fromarray(colours).convert(mode)
