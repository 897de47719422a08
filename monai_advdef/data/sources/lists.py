"""A data set told by a list: a table or a JSON file that names image, mask, patient and section of every case.

A table has the columns ``image`` and ``label`` (or ``mask``), and may have ``case``, ``patient`` and ``section``. A JSON file is a
list of such objects, or a data list of MONAI: ``{"training": [...], "validation": [...], "testing": [...]}``. Paths are relative to
the list; several images of one case (one a series) are a list, in a table joined by ``|``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_advdef.data.layouts.rows import SECTION_OF, SECTION_WORDS, Listed, Row, bare, settle, some
from monai_advdef.data.layouts.tables import rows_of
from monai_advdef.errors import DataError, nearest

ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".json")
IMAGE, MASK = ("image", "images", "img"), ("label", "mask", "labels", "masks", "seg", "segmentation")


def listed_by_list(path: Path) -> Listed:
    """The cases that a list names.

    Raises:
        DataError: a file that cannot be read, or that names no image and label.
    """
    listed = Listed()
    for place, (entry, part) in enumerate(_entries(path), start=1):
        where = f"{path}, entry {place}"
        if not isinstance(entry, Mapping):
            listed.problems.append(f"{where} is {entry!r}; it must name image and label")
            continue
        images, masks = _paths(entry, IMAGE, path.parent), _paths(entry, MASK, path.parent)
        if not images:
            listed.problems.append(f"{where} names no image (it has {some(list(entry))}); give it {IMAGE[0]} and {MASK[0]}")
            continue
        if not masks and part == "test":
            listed.notes.append(f"{where}: {images[0].name} has no label and is left out: it can be predicted, not evaluated")
            continue
        missing = [p for p in (*images, *masks) if not p.exists()]
        if missing or not masks:
            lack = f"no file {missing[0]}" if missing else "no label"
            listed.problems.append(
                f"{where} ({images[0].name}) has {lack}; correct the list (paths are relative to it), or remove the entry"
            )
            continue
        word = str(entry.get("section") or entry.get("split") or part or "")
        if word and word.lower() not in SECTION_OF:
            listed.problems.append(f"{where}: no section {word!r}; {nearest(word, SECTION_WORDS)}")
            continue
        case = str(entry.get("case") or bare(images[0]))
        listed.rows.append(Row(case, str(entry.get("patient") or case), images, masks, SECTION_OF.get(word.lower(), "")))
    often = Counter(row.images for row in listed.rows)
    for images in [images for images, count in often.items() if count > 1]:
        listed.problems.append(f"{path} names {images[0]} {often[images]} times; keep one entry an image")
    _tell_short(listed)
    if not listed.rows and not listed.problems:
        raise DataError(f"{path} names no case with a label; write the columns image,label,patient,section, a line a case")
    return settle(listed)


def _entries(path: Path) -> Iterable[tuple[Any, str]]:
    """Every entry, and the section that it stands under."""
    if path.suffix.lower() != ".json":
        rows = rows_of(path)
        known = {name for row in rows[:1] for name in row}
        if not known & set(IMAGE) or not known & set(MASK):
            raise DataError(
                f"{path} has the columns {sorted(known)}; it needs image and label (or mask), and may have patient, section"
            )
        return [(row, "") for row in rows]
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); write a list of {{image, label, patient, section}}") from error
    if isinstance(told, list):
        return [(entry, "") for entry in told]
    parts = {name: SECTION_OF[name.lower()] for name in told if name.lower() in SECTION_OF} if isinstance(told, dict) else {}
    if not parts:
        there = some(list(told)) if isinstance(told, dict) else type(told).__name__
        raise DataError(
            f"{path} holds {there}; it must be a list of {{image, label}}, or have such lists as training, validation, testing"
        )
    told_apart = len({section for section in parts.values()}) > 1
    found = []
    for name, section in parts.items():
        entries = told[name] if isinstance(told[name], list) else []
        found += [
            (entry if isinstance(entry, Mapping) else {"image": entry}, section if told_apart or section == "test" else "")
            for entry in entries
        ]
    return found


def _paths(entry: Mapping[str, Any], names: Iterable[str], home: Path) -> tuple[Path, ...]:
    told = next((entry[name] for name in names if entry.get(name)), ())
    parts = told.split("|") if isinstance(told, str) else told
    return tuple(home / str(part).strip().replace("\\", "/") for part in parts if str(part).strip())


def _tell_short(listed: Listed) -> None:
    """One note in place of many about entries without a label."""
    left = [note for note in listed.notes if "has no label and is left out" in note]
    if len(left) > 1:
        listed.notes = [note for note in listed.notes if note not in left]
        listed.notes.append(f"{len(left)} test images have no label and are left out: they can be predicted, not evaluated")
