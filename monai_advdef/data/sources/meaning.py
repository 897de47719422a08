"""What is stored in masks as classes of a task: by name, as a data set tells it, or by number, as a user says it (``values``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai_advdef.errors import DataError

BACKGROUND = {"background", "clear", "unlabeled", "unlabelled", "none", "bg", "back", "normal skin"}
ALSO = {  # further words of public data sets for a class
    "lesion": ("lesion", "melanoma", "nevus", "naevus", "mole", "keratosis", "foreground", "mask"),
    "optic disc": ("disc", "disk", "cup", "rim", "foreground", "mask"),  # the cup and the rim are parts of the disc
    "lungs": ("lung", "foreground", "mask"),
}
IGNORED = "ignore"


def parse_values(values: Any) -> dict[int, int]:
    """``"0=2,128=1,255=0"``, ``"0-127=0,128-255=1"`` or a mapping of stored values to class numbers; empty where nothing is given.

    Raises:
        ValueError: what cannot be read so, a value told twice, or a number below 0.
    """
    if values is None or values == "" or values == {}:
        return {}
    if isinstance(values, (list, tuple)):
        values = ",".join(map(str, values))
    told = [(str(k), str(v)) for k, v in values.items()] if isinstance(values, Mapping) else _split(str(values))
    found: dict[int, int] = {}
    for stored, number in told:
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", stored)
        if not match or not re.fullmatch(r"\s*\d+\s*", number):
            raise _wrong(values)
        if int(match[2] or match[1]) < int(match[1]):
            raise _wrong(values)
        for value in range(int(match[1]), int(match[2] or match[1]) + 1):
            if found.get(value, int(number)) != int(number):
                raise ValueError(f"values gives {value} the class {found[value]} and {int(number)}; name each stored value once")
            found[value] = int(number)
    if not found:
        raise _wrong(values)
    return found


def _split(text: str) -> list[tuple[str, str]]:
    pairs = [re.split(r"[=:]", part) for part in text.strip("{} ").split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise _wrong(text)
    return [(stored, number) for stored, number in pairs]


def _wrong(values: Any) -> ValueError:
    return ValueError(
        f"values must be stored value=class number, separated by commas, such as 0=0,255=1 (or 0-127=0,128-255=1), got {values!r}"
    )


def name_values(values: Mapping[int, int], classes: Sequence[str]) -> dict[int, str]:
    """The class name of every stored value.

    Raises:
        ValueError: a number that is no class.
    """
    odd = [number for number in values.values() if number >= len(classes)]
    if odd:
        known = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        raise ValueError(f"values names the class {odd[0]}; known: {known}")
    return {stored: classes[number] for stored, number in values.items()}


def class_of(name: str, classes: Sequence[str]) -> int:
    """The class that a structure's name means: 0 for background, -1 for a structure that is none of ``classes``.

    A name means a class if it holds all of its words, or one of the words that public data sets have for it, such as melanoma.
    """
    words = _words(name)
    if name in classes:
        return classes.index(name)
    if name.strip().lower() in BACKGROUND or not words:
        return 0
    for number, known in enumerate(classes[1:], start=1):
        if _words(known) <= words or any(_words(word) <= words for word in ALSO.get(known, ())):
            return number
    return -1


def classes_of(names: Mapping[int, str], classes: Sequence[str], told_by: str) -> tuple[dict[int, int], list[str]]:
    """The class of every stored value that is one, and notes; structures that are none of ``classes`` are background.

    Raises:
        DataError: no structure of ``classes`` among the names.
    """
    number_of = {value: class_of(name, classes) for value, name in names.items() if name.strip().lower() != IGNORED}
    if not any(number > 0 for number in number_of.values()):
        structures = [name for value, name in names.items() if number_of.get(value) != 0]
        raise unknown_structures(structures, classes, told_by)
    others = [f"{value} ({names[value]})" for value, number in number_of.items() if number < 0]
    notes = [f"the stored values {', '.join(others)} are no {' or '.join(classes[1:])} and count as background"] if others else []
    return {value: max(number, 0) for value, number in number_of.items()}, notes


def unknown_structures(names: Sequence[str], classes: Sequence[str], told_by: str) -> DataError:
    """The error about structures of which none is a class."""
    return DataError(
        f"{told_by} names the structures {', '.join(names) or 'none'}, of which none is {' or '.join(classes[1:])}; if one is, say "
        f"which by --values (stored value=class, such as {'0=0,1=1'}), else choose another task"
    )


def _words(name: str) -> set[str]:
    """The words of a name, in small letters and the singular; ``tumor`` is ``tumour`` and ``disk`` is ``disc``."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("tumor", "tumour").replace("disk", "disc")
    return {word.removesuffix("s") for word in re.findall(r"[a-zäöüß]{2,}", plain)}
