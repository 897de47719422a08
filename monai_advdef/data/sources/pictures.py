"""The rows of a data set of pictures as pairs of image and mask: used where they lie, or joined and re-valued into one PNG a case.

Masks that can stay as they are stay where they are. Others (several a case, values that mean other classes, GIF or JPEG files) are
written once into a folder of the user's, under a name made of their content, so that two runs cannot disturb each other.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.image_files import inspect_pair
from monai_advdef.data.layouts.rows import Listed, Row
from monai_advdef.data.listing import tell_twins
from monai_advdef.data.pairs import IMAGE_TYPES, MASK_TYPES, Pair
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.sources.meaning import class_of, classes_of, unknown_structures
from monai_advdef.errors import DataError


@dataclass(frozen=True)
class Meaning:
    """How the masks of a data set become classes: by stored value (empty: as they are) and by structure (empty: one structure).

    ``written`` is the number that stands for each class in a mask that is written, ``highest`` the greatest there may be in one that
    is used as it is; ``ignored`` are stored values of pixels that nobody judged.
    """

    classes: tuple[str, ...]
    values: Mapping[int, int] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    ignored: frozenset[int] = frozenset()
    written: tuple[int, ...] = ()

    @property
    def highest(self) -> int:
        """The greatest number in a mask of this meaning."""
        return max(self.written, default=len(self.classes) - 1)


def meaning_of(listed: Listed, classes: Sequence[str], told_by: str, *, partial: bool = False) -> tuple[Meaning, list[str]]:
    """What the masks of a data set mean for a task with these classes, and notes.

    Args:
        partial: some of the classes may be drawn nowhere.

    Raises:
        DataError: none of its structures is a class of the task, or (unless ``partial``) a class is drawn nowhere.
    """
    values, notes = classes_of(listed.class_names, classes, told_by) if listed.class_names else ({}, [])
    names = sorted({name for row in listed.rows for name in row.structures})
    structures = {name: class_of(name, classes) for name in names}
    if names and not any(number > 0 for number in structures.values()):
        raise unknown_structures(names, classes, told_by)
    drawn = {number for number in (*structures.values(), *([] if names else values.values())) if number > 0}
    absent = [name for number, name in enumerate(classes) if number and drawn and number not in drawn]
    if absent and not partial:
        raise DataError(
            f"{told_by} draws no {' and no '.join(absent)}, whose scores would mean nothing; leave multi at false, or add the masks"
        )
    others = [name for name, number in structures.items() if number < 0]
    notes += [f"the masks of {', '.join(others)} are not used: they are no {' or '.join(classes[1:])}"] if others else []
    ignored = frozenset(value for value in listed.class_names if value not in values)
    return Meaning(tuple(classes), values, {n: k for n, k in structures.items() if k > 0}, ignored), notes


def part_of(listed: Listed, part: str) -> Meaning | None:
    """What the masks of a data set mean for a structure within another, such as the optic cup; None where none draws it."""
    word = part.split()[-1]
    values = {value: int(word in name.lower()) for value, name in listed.class_names.items()}
    structures = {name: 1 for row in listed.rows for name in row.structures if word in name.lower()}
    if not structures and not any(values.values()):
        return None
    return Meaning(("background", part), values, structures)


def picture_pairs(
    listed: Listed, meaning: Meaning, store: Path, *, cup: Meaning | None = None
) -> tuple[list[Pair], list[str], list[str]]:
    """A pair a case, what is wrong with the others, and notes; every file is opened, and ``store`` gets the masks that are written.

    Args:
        cup: what the masks mean for a structure within, which the pairs then have as ``cup``.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(functools.partial(_pair, meaning=meaning, store=store, cup=cup), listed.rows))
    problems = [result for result in results if isinstance(result, str)]
    found = [result for result in results if not isinstance(result, str)]
    tell_twins([Path(pair["image"]) for pair, *_ in found])
    overlaps = [over for _, over, _ in found if over]
    notes = [
        f"{sum(told in these for *_, these in found)} of {len(found)} images {told}"
        for told in sorted({t for *_, these in found for t in these})
    ]
    if overlaps:
        told = f"masks of different structures overlap in {len(overlaps)} cases, by up to {max(overlaps)} pixels"
        notes.append(f"{told}: there the first structure counts")
    return [pair for pair, *_ in found], problems, notes


def _pair(row: Row, *, meaning: Meaning, store: Path, cup: Meaning | None) -> tuple[Pair, int, list[str]] | str:
    """The pair of a case, by how many pixels its structures overlap and what is done with its image; or what is wrong with it."""
    try:
        if len(row.images) != 1:
            names = ", ".join(path.name for path in row.images)
            raise DataError(f"the case {row.case!r} has {len(row.images)} image files ({names}); a picture is one file: join them")
        image = row.images[0]
        if image.suffix.lower() not in IMAGE_TYPES:
            raise DataError(f"{image} is no {', '.join(IMAGE_TYPES)} file; convert it, or choose a task on volumes")
        label, overlap = _label(row, meaning, store)
        pair: Pair = {"image": str(image), "label": str(label), "case": row.case, "patient": row.patient}
        told = inspect_pair(pair, classes=meaning.highest + 1)
        pair |= {"cup": str(_label(row, cup, store)[0])} if cup else {}
        return pair, overlap, told
    except DataError as error:
        return str(error)
    except OSError as error:  # a link that leads nowhere, a file that may not be read
        return f"the case {row.case!r}: {error.filename} cannot be opened ({error.strerror}); fetch it, or leave the case out"


def _label(row: Row, meaning: Meaning, store: Path) -> tuple[Path, int]:
    """The mask file of a case, written if it has to be, and by how many pixels structures overlap."""
    alone = len(row.masks) == 1 and not row.structures
    if alone and not meaning.values and row.masks[0].suffix.lower() in MASK_TYPES:
        return row.masks[0], 0
    joined, overlap = np.zeros(0, np.uint8), 0
    for place, path in reversed(list(enumerate(row.masks))):
        number = meaning.structures.get(row.structures[place]) if row.structures else 1
        if number is None:
            continue
        stored = read_mask(path)
        drawn = _classes(stored, path, meaning, alone)
        if row.structures:
            drawn = np.where(drawn > 0, np.uint8(number), np.uint8(0))
        elif alone and path.suffix.lower() in MASK_TYPES and (np.asarray(_written(meaning))[drawn] == stored).all():
            return path, 0
        if joined.size and joined.shape != drawn.shape:
            sizes = " and ".join("x".join(map(str, reversed(array.shape))) for array in (drawn, joined))
            raise DataError(f"the masks of the case {row.case!r} have {sizes} pixels ({path} and others); draw all at one size")
        overlap += int(((joined > 0) & (drawn > 0) & (joined != drawn)).sum()) if joined.size else 0
        joined = np.where(drawn > 0, drawn, joined) if joined.size else drawn
    if not joined.size:
        raise DataError(
            f"the case {row.case!r} has no mask of {' or '.join(meaning.classes[1:])}; it has {', '.join(row.structures)}"
        )
    return stored_png(np.asarray(_written(meaning), np.uint8)[joined], row.case, store), overlap


def _written(meaning: Meaning) -> tuple[int, ...]:
    return meaning.written or tuple(range(len(meaning.classes)))


def _classes(stored: np.ndarray, path: Path, meaning: Meaning, alone: bool) -> np.ndarray:
    """The class numbers ``(height, width)`` of what a mask file holds."""
    values = np.unique(stored).tolist()
    some = f"{', '.join(map(str, values[:6]))}{', ...' if len(values) > 6 else ''}"
    ignored = [value for value in values if value in meaning.ignored]
    if ignored:
        raise DataError(
            f"{path} holds the value {ignored[0]}, pixels to ignore, which a score cannot leave out; say by --values what they are"
        )
    if meaning.values:
        odd = ", ".join(str(value) for value in values if value not in meaning.values)
        if odd:
            known = ", ".join(f"{value}={number}" for value, number in list(meaning.values.items())[:12])
            raise DataError(
                f"{path} holds the value {odd}, of which nothing is told (known: {known}); say it by --values, or correct the mask"
            )
        table = np.zeros(max(*values, *meaning.values) + 1, np.uint8)
        table[list(meaning.values)] = list(meaning.values.values())
        return table[stored]
    if alone and len(meaning.classes) > 2:
        if values[-1] >= len(meaning.classes):
            raise DataError(
                f"{path} holds the values {some}; a mask holds the classes 0..{len(meaning.classes) - 1}: say by --values what they "
                "mean"
            )
        return stored.astype(np.uint8)
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        raise DataError(
            f"{path} holds the values {some}; a mask of one structure holds 0 and 255, or 0 and 1: say by --values what they mean "
            "(0-127=0,128-255=1 cuts a soft or JPEG mask in the middle)"
        )
    return (stored > 0).astype(np.uint8)


def stored_png(array: np.ndarray, case: str, store: Path) -> Path:
    """The file in ``store`` that holds this array, made if it is not there."""
    digest = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()[:16]
    path = store / f"{case}-{digest}.png".replace("/", "_")
    if not path.is_file():
        part = store / f".{path.name}.{os.getpid()}"
        try:
            store.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(part, format="PNG")
            part.replace(path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written ({error}); give a phantom_dir or bundle_root beside which masks may be written"
            ) from error
    return path
