"""JSRT (Japanese Society of Radiological Technology; 247 chest radiographs) with the SCR masks, as the two are distributed.

::

    All247images/{JPCLN001..JPCLN154,JPCNN001..JPCNN093}.IMG     with (L) and without (N) a nodule
    scratch/{fold1,fold2}/masks/{left lung,right lung,heart,left clavicle,right clavicle}/JPCLN001.gif    (0 and 255)

The names, and that ``fold1`` holds the odd and ``fold2`` the even numbers (124 and 123), were compared with several public loaders,
which agree; copies differ in the folders around, so that only the raw files and ``fold1`` or ``fold2`` are looked for.

A raw file has no header: 2048x2048 big-endian unsigned 16-bit integers, of which 12 bits are used (0.175 mm a pixel, says the SCR
page). Its values rise with the blackness of the film, so lungs are bright in it; public loaders invert it, and so does
:func:`read_raw`. They disagree on the scaling: here it is the same for all images, 4095 to 0 and 0 to 255, nothing stretched.

The masks have 1024x1024 pixels; by the SCR page left and right are the patient's: the left lung is on the right of the image. Not
verified on the files themselves: the grey levels of the masks. Which radiographs show the same person is not told: every one is a
patient here.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from monai_advdef.data.listing import Entry, Listing, first_below
from monai_advdef.errors import DataError

FOLDS = {"fold1": "train", "fold2": "test"}
LUNGS = ("left lung", "right lung")
HIGHEST = 4095


def _raw_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".img" and p.name.startswith(("JPCLN", "JPCNN")))


def _images(folder: Path) -> Path | None:
    return first_below(folder, lambda path: bool(_raw_files(path)))


def _folds(folder: Path) -> Path | None:
    return first_below(folder, lambda path: any((path / fold / "masks").is_dir() for fold in FOLDS))


def home(folder: Path) -> Path | None:
    """``folder``, if the raw files or the folds are in it or up to two folders below."""
    return folder if folder.is_dir() and (_images(folder) or _folds(folder)) else None


def read(folder: Path) -> Listing:
    """Every radiograph with its lung masks, and its heart mask where the data set has any; ``fold1`` trains, ``fold2`` tests."""
    listing, images, folds = Listing(), _images(folder), _folds(folder)
    if images is None:
        listing.problems.append(f"no raw file such as JPCLN001.IMG in {folder}; unpack the images of JSRT there")
    if folds is None:
        listing.problems.append(f"no fold1/masks or fold2/masks in {folder}; unpack the masks of the SCR database there")
    if images is None or folds is None:
        return listing
    raw_of = {path.stem: path for path in _raw_files(images)}
    fold_of = _fold_of(folds, raw_of, listing)
    hearts = any((folds / fold / "masks" / "heart").is_dir() for fold in FOLDS)
    if not hearts:
        listing.notes.append(f"no folder heart in {folds}/{{fold1,fold2}}/masks: there will be no masks_multi")
    for case, fold in sorted(fold_of.items()):
        left, right, heart = (folds / fold / "masks" / name / f"{case}.gif" for name in (*LUNGS, "heart"))
        multi = (left, right, heart) if hearts else ()
        listing.add(Entry(case, case, raw_of[case], left, also=right, multi=multi, section=FOLDS[fold]))
    return listing


def _fold_of(folds: Path, raw_of: dict[str, Path], listing: Listing) -> dict[str, str]:
    """The fold of every radiograph, by the lung masks in it; what has no mask, no raw file or two folds is a problem."""
    found: dict[str, str] = {}
    for fold in FOLDS:
        drawn = {path.stem for name in LUNGS for path in (folds / fold / "masks" / name).glob("JP*.gif")}
        twice, absent = sorted(drawn & found.keys()), sorted(drawn - raw_of.keys())
        if twice:
            listing.problems.append(f"{_some(twice)} in fold1 and in fold2 of {folds}; keep each in the fold it was distributed in")
        if absent:
            listing.problems.append(
                f"{folds / fold} names {_some(absent)}, of which there is no raw file; unpack the images of JSRT again, "
                "or remove the masks"
            )
        found.update(dict.fromkeys(drawn & raw_of.keys(), fold))
    lonely = sorted(raw_of.keys() - found.keys())
    if lonely:
        listing.problems.append(
            f"{_some([raw_of[case].name for case in lonely])} without a lung mask in fold1 or fold2 of {folds}; "
            "unpack the masks of the SCR database again, or remove the raw files"
        )
    return found


def _some(names: list[str]) -> str:
    """``"3 radiographs (a, b, c)"``, at most five names."""
    return f"{len(names)} radiograph{'s' * (len(names) > 1)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def read_raw(path: str | os.PathLike[str], *, size: int = 2048) -> np.ndarray:
    """A raw file of ``size`` x ``size`` pixels as grey levels 0..255 ``(size // 2, size // 2)``, the lungs dark.

    Means of 2x2 pixels, inverted and scaled from 0..4095, rounded to the nearest level.

    Raises:
        DataError: another number of bytes, or a value above 4095.
    """
    there, expected = os.path.getsize(path), 2 * size * size
    if there != expected:
        raise DataError(
            f"{path} has {there} bytes; a raw radiograph of {size}x{size} pixels has {expected}, without header: fetch it again"
        )
    values = np.fromfile(path, dtype=">u2").astype(np.uint16).reshape(size, size)
    if values.max() > HIGHEST:
        raise DataError(
            f"{path} holds the value {values.max()}, above {HIGHEST} (12 bits, high byte first); fetch the original file again, or "
            "swap its bytes back"
        )
    sums = values[::2, ::2] + values[::2, 1::2] + values[1::2, ::2] + values[1::2, 1::2]  # at most 4 * 4095: 16 bits hold it
    return np.rint((HIGHEST - sums / 4) * (255 / HIGHEST)).astype(np.uint8)
