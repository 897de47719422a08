"""What a data set may tell beyond images and masks: the optic cup, and the patient and the diagnosis of each case."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from monai_advdef.data.image_files import check_pair
from monai_advdef.data.pairs import MASK_TYPES, Pair
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.errors import DataError, nearest

ROUGH = 0.02  # share of a cup that may lie outside the disc without a word: outlines drawn by hand are off by a few pixels


def with_cups(pairs: Sequence[Pair], folder: str | os.PathLike[str], *, check: bool = True) -> list[Pair]:
    """The pairs with ``cup``, the mask file of ``folder`` that is called as the disc mask (``label``).

    Args:
        folder: usually ``masks_cup``, beside ``masks``.
        check: open every file; warn where more than 2 % of a cup lies outside its disc.

    Raises:
        DataError: a case without cup mask, or a cup mask that :func:`check_pair` finds unusable.
    """
    cup_of = {path.stem: path for path in Path(folder).iterdir() if path.suffix.lower() in MASK_TYPES}
    lonely = [Path(pair["label"]).name for pair in pairs if Path(pair["label"]).stem not in cup_of]
    if lonely:
        names = ", ".join(lonely[:5]) + (", ..." if len(lonely) > 5 else "")
        raise DataError(
            f"{len(lonely)} of {len(pairs)} cases have no cup mask in {folder}: {names}; a cup mask is called as the disc mask: "
            f"add the missing ones, or do without cups (cups=False)"
        )
    found = [{**pair, "cup": str(cup_of[Path(pair["label"]).stem])} for pair in pairs]
    if check:
        with ThreadPoolExecutor() as pool:
            outside = dict(zip((pair["cup"] for pair in found), pool.map(_outside_disc, found)))
        rough = sorted((path for path, share in outside.items() if share > ROUGH), key=lambda path: -outside[path])
        if rough:
            warnings.warn(
                f"{len(rough)} of {len(found)} cup masks reach out of their disc mask; worst: {rough[0]} with "
                f"{100 * outside[rough[0]]:.0f} % of its pixels; check that the masks belong together",
                stacklevel=2,
            )
    return found


def _outside_disc(pair: Pair) -> float:
    """The share of the cup that lies outside the disc, after both files were checked."""
    check_pair({"image": pair["image"], "label": pair["cup"]})
    inside, drawn = read_mask(pair["label"]) > 0, read_mask(pair["cup"]) > 0
    return float((drawn & ~inside).sum() / max(drawn.sum(), 1))


def with_diagnoses(pairs: Sequence[Pair], table: str | os.PathLike[str], diagnoses: Sequence[str]) -> list[Pair]:
    """The pairs with ``diagnosis``, one of ``diagnoses``, from the columns ``image`` and ``diagnosis`` of a CSV file.

    ``image`` is the name of the image file, with or without its extension. Without a column ``diagnosis`` the pairs come back as
    they are; other columns are left aside.

    Raises:
        DataError: no column ``image``, an unknown image or word, an image twice, or an image that the file leaves out.
    """
    rows = _column(pairs, table, "diagnosis")
    for line, word in rows.values():
        if word not in diagnoses:
            raise DataError(f"{table}, line {line}: no diagnosis {word!r}; {nearest(word, diagnoses)}")
    return [{**pair, "diagnosis": rows[pair["case"]][1]} for pair in pairs] if rows else list(pairs)


def with_patients(pairs: Sequence[Pair], table: str | os.PathLike[str]) -> list[Pair]:
    """The pairs with the ``patient`` that the columns ``image`` and ``patient`` of a CSV file give them, as :func:`with_diagnoses`.

    Raises:
        DataError: no column ``image``, an unknown image, an image twice, one that the file leaves out, or an empty patient.
    """
    rows = _column(pairs, table, "patient")
    for line, word in rows.values():
        if not word:
            raise DataError(f"{table}, line {line}: the patient is empty; name one, or remove the column patient")
    return [{**pair, "patient": rows[pair["case"]][1]} for pair in pairs] if rows else list(pairs)


def _column(pairs: Sequence[Pair], table: str | os.PathLike[str], column: str) -> dict[str, tuple[int, str]]:
    """Line number and word of every case in one column of a CSV file; nothing where the file has no such column."""
    with Path(table).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = set(reader.fieldnames or ())
        rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    if column not in columns:
        return {}
    if "image" not in columns:
        raise DataError(f"{table} has the columns {sorted(columns)}; it needs image,{column}")
    case_of = {Path(pair["image"]).name: pair["case"] for pair in pairs} | {pair["case"]: pair["case"] for pair in pairs}
    found: dict[str, tuple[int, str]] = {}
    for line, row in enumerate(rows, start=2):
        name = row["image"]
        if name not in case_of:
            raise DataError(f"{table}, line {line}: no image is called {name!r}; {nearest(name, case_of)}")
        if case_of[name] in found:
            raise DataError(f"{table}, line {line}: the image {name!r} stands there twice; keep one line per image")
        found[case_of[name]] = (line, row[column])
    missing = [Path(pair["image"]).name for pair in pairs if pair["case"] not in found]
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{table} leaves out {len(missing)} images ({names}); give each a {column}, or move the image away")
    return found


def require_diagnoses(pairs: Sequence[Pair], section: str, diagnoses: Sequence[str] = ("normal", "glaucoma")) -> None:
    """Make sure that a diagnosis can be trained or evaluated on ``pairs``, the cases of ``section``.

    Raises:
        DataError: a case without diagnosis, or a diagnosis that no case has.
    """
    unknown = [pair["case"] for pair in pairs if "diagnosis" not in pair]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(pairs)} cases of the section {section!r} have no diagnosis ({', '.join(unknown[:5])}); "
            "write a labels.csv with the columns image,diagnosis beside images/"
        )
    absent = [word for word in diagnoses if all(pair["diagnosis"] != word for pair in pairs)]
    if absent:
        raise DataError(
            f"no case of the section {section!r} ({len(pairs)} cases) has the diagnosis {absent[0]!r}; add such cases to the data "
            "set, or write a split.csv with the columns case,section that puts every diagnosis into every section"
        )
