"""A data set told by a list: a table or a JSON file that names image, mask, patient and section of every case.

A table has the columns ``image`` and ``label`` (or ``mask``), and may have ``case``, ``patient`` and ``section``. A JSON file is a
list of such objects, or a data list of MONAI: ``{"training": [...], "validation": [...], "testing": [...]}``. Paths are relative to
the list; several images of one case (one a series) are a list, in a table joined by ``|``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from monai_advdef.data.columns import EMPTY, ROLES, SECTION_WORDS, SECTIONS, key_of, one_spelling
from monai_advdef.data.layouts.rows import Listed, Row, bare, settle
from monai_advdef.data.layouts.tables import rows_of
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError, nearest

ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".json")
COLUMNS = {  # what people call each entry, without capitals, spaces and signs; the likeliest first
    "image": ("image", "images", "img", "imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "filepath", "filename"),
    "label": (
        *("label", "mask", "labels", "masks", "seg", "segmentation", "segmentations", "labelpath", "maskpath", "segpath"),
        *("labelfile", "maskfile", "maskfilename", "maskname", "segmentationpath", "groundtruth", "gt", "annotation", "target"),
    ),
    "case": ("case", "caseid", "casename"),
    "patient": ROLES["patient"],
    "section": tuple(word for word in ROLES["section"] if word != "fold"),
}


def listed_by_list(path: Path) -> Listed:
    """The cases that a list names.

    Raises:
        DataError: a file that cannot be read, or that names no image and label.
    """
    listed, unlabelled = Listed(), []
    for place, (entry, part) in enumerate(_entries(path), start=1):
        try:
            found = _row(entry, part, path, place)
        except DataError as error:
            listed.problems.append(str(error))
            continue
        if found.masks:
            listed.rows.append(found)
        else:
            unlabelled.append(found.images[0].name)
    if unlabelled:
        what = "test image has no label and is" if len(unlabelled) == 1 else "test images have no label and are"
        listed.notes.append(f"{len(unlabelled)} {what} left out ({some(unlabelled)}): to be predicted, not evaluated")
    often = Counter(row.images for row in listed.rows)
    for images in [images for images, count in often.items() if count > 1]:
        listed.problems.append(f"{path} names {images[0]} {often[images]} times; keep one entry an image")
    shared = [mask for mask, count in Counter(mask for row in listed.rows for mask in row.masks).items() if count > 1]
    if shared:
        listed.notes.append(f"{len(shared)} labels belong to several images each ({some([mask.name for mask in shared])})")
    if not listed.rows and not listed.problems:
        raise DataError(f"{path} names no case with a label; write the columns image,label,patient,section, a line a case")
    spelt, twice = one_spelling([row.patient for row in listed.rows])
    if twice:
        listed.notes.append(f"patients that are written in two ways are taken as one: {some(sorted(set(twice)))}")
    listed.rows = [Row(r.case, patient, r.images, r.masks, r.section) for r, patient in zip(listed.rows, spelt)]
    return settle(listed)


def _row(entry: Any, part: str, path: Path, place: int) -> Row:
    """The case of an entry; without masks where a test image has none. A :class:`DataError` says what is wrong with it."""
    where = f"{path}, entry {place}"
    if not isinstance(entry, Mapping):
        raise DataError(f"{where} is {entry!r}; it must name image and label")
    told = {key_of(str(key)): value for key, value in entry.items()}
    of = {role: next((told[name] for name in names if told.get(name) not in (None, "")), "") for role, names in COLUMNS.items()}
    try:
        images, masks = _paths(of["image"], path.parent), _paths(of["label"], path.parent)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not images:
        raise DataError(f"{where} names no image (it has {some(list(entry))}); give it image and label")
    word = str(of["section"] or part)
    section = SECTION_WORDS.get(word.lower(), "")
    if word and not section:
        raise DataError(f"{where}: no section {word!r}; {nearest(word, SECTIONS)}")
    missing = [file for file in (*images, *masks) if not file.exists()]
    if missing or not (masks or section == "test"):
        lack = f"no file {missing[0]}" if missing else "no label"
        raise DataError(f"{where} ({images[0].name}) has {lack}; correct the list (paths are relative to it), or remove the entry")
    if set(images) & set(masks):
        raise DataError(f"{where}: {images[0].name} is image and label at once; correct the list")
    case, patient = str(of["case"]) or bare(images[0]), str(of["patient"])
    return Row(case, case if patient.lower() in EMPTY else patient, images, masks, section)


def _entries(path: Path) -> Iterable[tuple[Any, str]]:
    """Every entry, and the section that it stands under."""
    if path.suffix.lower() != ".json":
        rows = rows_of(path)
        known = {name for row in rows[:1] for name in row}
        if not known & set(COLUMNS["image"]) or not known & set(COLUMNS["label"]):
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
    parts = {name: SECTION_WORDS[name.lower()] for name in told if name.lower() in SECTION_WORDS} if isinstance(told, dict) else {}
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


def _paths(told: Any, home: Path) -> tuple[Path, ...]:
    parts = told.split("|") if isinstance(told, str) else told if isinstance(told, (list, tuple)) else [told]
    return tuple(home / _local(str(part).strip()) for part in parts if str(part).strip())


def _local(word: str) -> str:
    """A path of a list in this system's form: with slashes, ``~`` and ``file://`` resolved."""
    if word.lower().startswith("file://"):
        return url2pathname(urlsplit(word).path)
    if "://" in word:
        raise DataError(f"{word!r} is an address; fetch the file, and name it by its path")
    return os.path.expanduser(word.replace("\\", "/"))
