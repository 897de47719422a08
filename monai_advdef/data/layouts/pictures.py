"""The rows of a data set of pictures as pairs of image and mask: used where they lie, or joined and re-valued into one PNG a case.

Masks that can stay as they are stay where they are. Others (several a case, values that mean other classes, GIF or JPEG files) are
written once into a folder of the user's, under a name made of their content, so that two runs cannot disturb each other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.image_files import check_pair
from monai_advdef.data.layouts.meaning import class_of, classes_of, unknown_structures
from monai_advdef.data.layouts.rows import Listed, Row
from monai_advdef.data.pairs import IMAGE_TYPES, MASK_TYPES, Pair
from monai_advdef.errors import DataError


@dataclass(frozen=True)
class Meaning:
    """How the masks of a data set become classes: by stored value (empty: as they are) and by structure (empty: one structure)."""

    classes: tuple[str, ...]
    values: Mapping[int, int] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    ignored: frozenset[int] = frozenset()


def meaning_of(listed: Listed, classes: Sequence[str], told_by: str) -> tuple[Meaning, list[str]]:
    """What the masks of a data set mean for a task with these classes, and notes.

    Raises:
        DataError: none of its structures is a class of the task.
    """
    values, notes = classes_of(listed.class_names, classes, told_by) if listed.class_names else ({}, [])
    names = sorted({name for row in listed.rows for name in row.structures})
    structures = {name: class_of(name, classes) for name in names}
    if names and not any(number > 0 for number in structures.values()):
        raise unknown_structures(names, classes, told_by)
    others = [name for name, number in structures.items() if number < 0]
    notes += [f"the masks of {', '.join(others)} are not used: they are no {' or '.join(classes[1:])}"] if others else []
    ignored = frozenset(value for value in listed.class_names if value not in values)
    return Meaning(tuple(classes), values, {n: k for n, k in structures.items() if k > 0}, ignored), notes


def picture_pairs(listed: Listed, meaning: Meaning, store: Path, *, check: bool = True) -> tuple[list[Pair], list[str], list[str]]:
    """A pair a case, what is wrong with the others, and notes; ``store`` gets the masks that have to be written.

    Args:
        check: open every file, see :func:`check_pair`.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(partial(_pair, meaning=meaning, store=store, check=check), listed.rows))
    problems = [str(result) for result in results if isinstance(result, DataError)]
    found = [result for result in results if not isinstance(result, DataError)]
    overlaps = [row for (_, over), row in zip(found, listed.rows) if over]
    notes = []
    if overlaps:
        most = max(over for _, over in found)
        notes.append(
            f"masks of different structures overlap in {len(overlaps)} cases, by up to {most} pixels: there the first class counts"
        )
    return [pair for pair, _ in found], problems, notes


def _pair(row: Row, *, meaning: Meaning, store: Path, check: bool) -> tuple[Pair, int] | DataError:
    try:
        if len(row.images) != 1:
            raise DataError(
                f"the case {row.case!r} has {len(row.images)} image files; a picture is one: join {row.images[0]} and the others"
            )
        image = row.images[0]
        if image.suffix.lower() not in IMAGE_TYPES:
            raise DataError(f"{image} is no picture ({', '.join(IMAGE_TYPES)}); choose a task on volumes, or other files")
        label, overlap = _label(row, meaning, store)
        pair: Pair = {"image": str(image), "label": str(label), "case": row.case, "patient": row.patient}
        if check:
            check_pair(pair, classes=len(meaning.classes))
        return pair, overlap
    except DataError as error:
        return error


def _label(row: Row, meaning: Meaning, store: Path) -> tuple[Path, int]:
    """The mask file of a case, written if it has to be, and by how many pixels structures overlap."""
    plain = all(stored == number for stored, number in meaning.values.items()) and not meaning.ignored
    if len(row.masks) == 1 and not row.structures and plain and row.masks[0].suffix.lower() in MASK_TYPES:
        return row.masks[0], 0
    joined, overlap = None, 0
    for place, path in reversed(list(enumerate(row.masks))):
        number = meaning.structures.get(row.structures[place]) if row.structures else 1
        if number is None:
            continue
        drawn = _classes(path, meaning, alone=len(row.masks) == 1 and not row.structures)
        if row.structures:
            drawn = np.where(drawn > 0, np.uint8(number), np.uint8(0))
        if joined is None:
            joined = drawn
        elif joined.shape != drawn.shape:
            raise DataError(
                f"{path} is {drawn.shape[1]}x{drawn.shape[0]} pixels, {row.masks[-1]} {joined.shape[1]}x{joined.shape[0]}; draw both at one size"
            )
        else:
            overlap += int(((joined > 0) & (drawn > 0) & (joined != drawn)).sum())
            joined = np.where(drawn > 0, drawn, joined)
    if joined is None:
        raise DataError(
            f"the case {row.case!r} has no mask of {' or '.join(meaning.classes[1:])}; it has {', '.join(row.structures)}"
        )
    return stored_png(joined, row.case, store), overlap


def _classes(path: Path, meaning: Meaning, *, alone: bool) -> np.ndarray:
    """The class numbers ``(height, width)`` of a mask file."""
    stored = _stored(path)
    values = np.flatnonzero(np.bincount(stored.ravel())).tolist()
    ignored = [value for value in values if value in meaning.ignored]
    if ignored:
        raise DataError(
            f"{path} holds the value {ignored[0]}, pixels to ignore; they cannot be left out of a score: say by --values what they are"
        )
    if meaning.values:
        odd = [value for value in values if value not in meaning.values]
        if odd:
            known = ", ".join(f"{stored}={number}" for stored, number in list(meaning.values.items())[:12])
            raise DataError(
                f"{path} holds the value {', '.join(map(str, odd[:6]))}, of which nothing is told (known: {known}); add it to --values, or correct the mask"
            )
        table = np.zeros(max(max(values), *meaning.values) + 1, np.uint8)
        for value, number in meaning.values.items():
            table[value] = number
        return table[stored]
    if alone and len(meaning.classes) > 2:
        if max(values) >= len(meaning.classes):
            raise DataError(
                f"{path} holds the values {values[:6]}; a mask holds class numbers 0..{len(meaning.classes) - 1}: say by --values what they mean"
            )
        return stored.astype(np.uint8)
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        more = ", ..." if len(values) > 6 else ""
        raise DataError(
            f"{path} holds the values {', '.join(map(str, values[:6]))}{more}; a mask of one structure holds 0 and 255, or 0 and 1: say by "
            "--values what they mean (0-127=0,128-255=1 cuts a soft or JPEG mask in the middle)"
        )
    return (stored > 0).astype(np.uint8)


def _stored(path: Path) -> np.ndarray:
    """The whole numbers ``(height, width)`` that a mask file holds; of three equal channels one."""
    try:
        with Image.open(path) as file:
            stored = np.asarray(file)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a mask ({error}); fetch it again, or leave the case out") from error
    if stored.ndim == 3 and all((stored[..., :1] == stored[..., k : k + 1]).all() for k in range(min(3, stored.shape[2]))):
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.dtype.kind not in "biu" or stored.size == 0:
        raise DataError(
            f"{path} is no mask of one channel with whole numbers (shape {stored.shape}, {stored.dtype}); save it as 8-bit grey"
        )
    return stored.astype(np.int64)


def stored_png(array: np.ndarray, case: str, store: Path) -> Path:
    """The file in ``store`` that holds this array, made if it is not there."""
    digest = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()[:16]
    path = store / f"{case}-{digest}.png".replace("/", "_")
    if not path.is_file():
        partial_file = store / f".{path.name}.{os.getpid()}"
        try:
            store.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(partial_file, format="PNG")
            partial_file.replace(path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written ({error}); give a phantom_dir or bundle_root beside which masks may be written"
            ) from error
    return path
