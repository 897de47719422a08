"""What a data set may tell beyond images and masks: the optic cup, and the patient and the diagnosis of each case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from monai_advdef.data.columns import Names, like_patients
from monai_advdef.data.image_files import check_pair
from monai_advdef.data.listing import files_in, normal
from monai_advdef.data.notes import note, some
from monai_advdef.data.pairs import MASK_TYPES, Pair, single
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.tables import Table, find_table, read_table
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
    drawings = files_in(folder, MASK_TYPES)
    cup_of = single(drawings.use())
    lonely = [Path(pair["label"]).name for pair in pairs if normal(Path(pair["label"]).stem) not in cup_of]
    if lonely:
        raise DataError(
            f"{len(lonely)} of {len(pairs)} cases have no cup mask in {folder}: {some(lonely)}; a cup mask is called as the disc "
            "mask: add the missing ones, or do without cups (cups=False)"
        )
    wanted = {normal(Path(pair["label"]).stem) for pair in pairs}
    idle = [path.name for case, path in cup_of.items() if case not in wanted]
    if idle:
        note(f"{len(idle)} of {len(cup_of)} cup masks in {folder} belong to no disc mask and are left aside: {some(idle)}")
    found = [{**pair, "cup": str(cup_of[normal(Path(pair["label"]).stem)])} for pair in pairs]
    if check:
        with ThreadPoolExecutor() as pool:
            outside = dict(zip((pair["cup"] for pair in found), pool.map(_outside_disc, found)))
        rough = sorted((path for path, share in outside.items() if share > ROUGH), key=lambda path: -outside[path])
        if rough:
            note(
                f"{len(rough)} of {len(found)} cup masks reach out of their disc mask; worst: {rough[0]} with "
                f"{100 * outside[rough[0]]:.0f} % of its pixels; check that the masks belong together"
            )
    return found


def _outside_disc(pair: Pair) -> float:
    """The share of the cup that lies outside the disc, after both files were checked."""
    check_pair({"image": pair["image"], "label": pair["cup"]})
    inside, drawn = read_mask(pair["label"]) > 0, read_mask(pair["cup"]) > 0
    return float((drawn & ~inside).sum() / max(drawn.sum(), 1))


def with_diagnoses(pairs: Sequence[Pair], table: str | os.PathLike[str], diagnoses: Sequence[str]) -> list[Pair]:
    """The pairs with ``diagnosis``, one of ``diagnoses`` in any capitals, from the columns ``image`` and ``diagnosis`` of a table.

    For how the columns may be called, and ``image`` may name an image, see :data:`ROLES` and :class:`Names`. Without a column
    ``diagnosis`` the pairs come back as they are; other columns are left aside.

    Raises:
        DataError: no column ``image``, an unknown image or word, an image twice, or an image that the file leaves out; a file that
            :func:`read_table` refuses.
    """
    read = read_table(table)
    words = read.words("diagnosis")
    rows = _by_case(pairs, read, words, "diagnosis")
    known = {word.casefold(): word for word in diagnoses}
    for line, word in rows.values():
        if word.casefold() not in known:
            raise DataError(f"{table}, line {line}: no diagnosis {word!r}; {nearest(word, diagnoses)}")
    return [{**pair, "diagnosis": known[rows[pair["case"]][1].casefold()]} for pair in pairs] if rows else list(pairs)


def with_patients(pairs: Sequence[Pair], table: str | os.PathLike[str]) -> list[Pair]:
    """The pairs with the ``patient`` that the columns ``image`` and ``patient`` of a table give them, as :func:`with_diagnoses`.

    Without a column ``patient`` the pairs come back as they are; that is told, see :func:`note`, unless a ``split.csv`` beside the
    table names the patients.

    Raises:
        DataError: no column ``image``, an unknown image, an image twice, one that the file leaves out, or an empty patient; a file
            that :func:`read_table` refuses.
    """
    read = read_table(table)
    words = read.patients()
    if words is None:
        tell_no_patients(read, "image")
        return list(pairs)
    rows = _by_case(pairs, read, words, "patient")
    for line, word in rows.values():
        if not word:
            raise DataError(f"{table}, line {line}: the patient is empty; name one, or remove the column patient")
    return [{**pair, "patient": rows[pair["case"]][1]} for pair in pairs]


def tell_no_patients(table: Table, what: str) -> None:
    """Tell that every ``what`` counts as a patient, since no column tells which belong together, unless the split does."""
    split = find_table(table.path.parent, "split")
    if split is not None and read_table(split).places("patient"):
        return
    odd = like_patients(table.columns)
    hint = f"; {' or '.join(map(repr, odd))} looks like one: call it patient if it is" if odd else ""
    note(
        f"{table.path} has no column of patients (its columns: {', '.join(table.columns)}): every {what} counts as a patient "
        f"of its own, and those of one person may come to train and to test{hint}"
    )


def _by_case(pairs: Sequence[Pair], table: Table, words: list[str] | None, column: str) -> dict[str, tuple[int, str]]:
    """Line number and word of every case; nothing where the table has no such words."""
    if words is None:
        return {}
    names = Names({pair["case"]: Path(pair["image"]).name for pair in pairs})
    found: dict[str, tuple[int, str]] = {}
    for (line, name, case), word in zip(table.cases(names, f"image,{column}"), words):
        if case is None:
            raise DataError(f"{table.path}, line {line}: no image is called {name!r}; {nearest(name, names.exact)}")
        if case in found:
            raise DataError(f"{table.path}, line {line}: the image {name!r} stands there twice; keep one line per image")
        found[case] = (line, word)
    missing = [Path(pair["image"]).name for pair in pairs if pair["case"] not in found]
    if missing:
        raise DataError(
            f"{table.path} leaves out {len(missing)} images ({some(missing)}); give each a {column}, or move the image away"
        )
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
