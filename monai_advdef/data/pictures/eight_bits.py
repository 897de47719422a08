"""Pictures of more than 8 bits a channel: refused in words, and converted by a window that people choose."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.listing import images_in
from monai_advdef.data.pictures.stored import DEEP_MODES, TURN, Stored, load
from monai_advdef.errors import DataError


def refusal(path: str | os.PathLike[str], stored: Stored) -> str:
    """Why an image of more than 8 bits a channel is not taken, with the line of Python that converts its folder."""
    try:
        values = deep_pixels(path, stored)
    except DataError as error:
        return str(error)
    low, high = _window(values)
    folder = os.path.dirname(path) or "."
    kind = "floating-point" if values.dtype.kind == "f" else "32-bit" if stored.image.mode == "I" else "16-bit"
    return (
        f"{path} has {kind} pixels (from {_plain(values.min())} to {_plain(values.max())}), and images have 8 bits: choose one "
        f"window for all images of the data set and rescale them by it, as by the window of this one: from monai_advdef.data import "
        f"to_eight_bits; to_eight_bits({str(folder)!r}, {f'{folder}_8bit'!r}, low={_plain(low)}, high={_plain(high)}); then put "
        f"that folder in place of {folder}"
    )


def to_eight_bits(source: str | os.PathLike[str], target: str | os.PathLike[str], *, low: float, high: float) -> int:
    """Write pictures of more than 8 bits as 8-bit PNG files: ``low`` and below become 0, ``high`` and above 255, linearly, rounded.

    Args:
        source: an image file, or a folder, of which every image file is converted; those of 8 bits are copied as they are.
        target: the file to write, or a folder that is not there yet or is empty.

    Returns:
        How many files were converted.

    Raises:
        ValueError: ``low`` not below ``high``.
        DataError: nothing to convert, a file that cannot be read, or a ``target`` that holds something.
    """
    if not low < high:
        raise ValueError(f"low must be below high, got low={low}, high={high}")
    origin, goal = Path(source), Path(target)
    stored = {path: load(path) for path in (images_in(origin) if origin.is_dir() else [origin])}
    deep = [path for path, file in stored.items() if file.deep]
    if not deep:
        raise DataError(f"{origin} holds no image of more than 8 bits; it can stay as it is")
    if goal.is_file() or (goal.is_dir() and any(goal.iterdir())):
        raise DataError(f"{goal} exists and is not an empty folder; name a new one")
    if not origin.is_dir():
        goal.parent.mkdir(parents=True, exist_ok=True)
        _save(deep_pixels(origin, stored[origin]), goal, low, high)
        return 1
    goal.mkdir(parents=True, exist_ok=True)
    for path, file in stored.items():
        if file.deep:
            _save(deep_pixels(path, file), goal / f"{path.stem}.png", low, high)
        else:
            shutil.copyfile(path, goal / path.name)
    return len(deep)


def _save(values: np.ndarray, path: Path, low: float, high: float) -> None:
    levels = np.rint((np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))).astype(np.uint8)
    Image.fromarray(levels).save(path, format="PNG")


def deep_pixels(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """The pixels ``(height, width)`` or ``(height, width, 3)`` of a file of more than 8 bits in its own numbers, upright.

    Raises:
        DataError: an order of bits that cannot be read, NaN, or transparent pixels.
    """
    values = np.asarray(stored.image) if stored.image.mode in DEEP_MODES else _colours(path, stored)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path} holds {int((~np.isfinite(values)).sum())} NaN or infinite pixels; repair or remove it")
    return np.iinfo(np.uint16).max - values.astype(np.int64) if stored.white_is_zero and values.dtype.kind == "u" else values


def _colours(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """Colours of 16 bits a channel, of which Pillow keeps the upper 8: read by ITK, which does not look at orientation tags."""
    import SimpleITK as sitk

    again = "save it with 8 bits from the program that made it, every image of the data set with the same window"
    if stored.kind == "TIFF" and stored.orientation > 1:
        raise DataError(f"{path} has 16 bits a channel and an orientation tag; {again}, upright")
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise DataError(f"{path} has 16 bits a channel in an order that cannot be read; {again}") from error
    values = np.atleast_3d(values)
    if values.shape[-1] in (2, 4):
        if values[..., -1].min() != np.iinfo(values.dtype).max:
            raise DataError(f"{path} has 16 bits a channel and transparent pixels; {again}, on the background that is meant")
        values = values[..., :-1]
    if stored.orientation > 1:
        how = TURN[stored.orientation]
        values = np.stack([np.asarray(Image.fromarray(channel).transpose(how)) for channel in np.moveaxis(values, -1, 0)], -1)
    return values


def _window(values: np.ndarray) -> tuple[float, float]:
    """The window that the numbers suggest: from 0 to the largest of the bits used; [0, 1] of fractions, [0, 255] of grey levels kept
    as floating point; else what is there."""
    low, high = float(values.min()), float(values.max())
    levels = 0 <= low and 1 < high <= 255 and bool((values == np.rint(values)).all())
    if not levels and (values.dtype.kind == "f" or low < 0):
        return (0.0, 1.0) if low >= 0 and 0 < high <= 1 else (low, high if high > low else low + 1)
    return 0.0, float(2 ** max(int(high).bit_length(), 8) - 1)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{float(number):g}"
