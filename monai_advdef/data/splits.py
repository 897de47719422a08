"""Train, validation and test: which case is where."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from monai_advdef.data.columns import SECTION_WORDS, SECTIONS, Names
from monai_advdef.data.notes import some
from monai_advdef.data.pairs import Pair
from monai_advdef.data.tables import find_table, read_table
from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written


@as_written
def split_pairs(
    pairs: Sequence[Pair],
    section: str,
    *,
    split_file: str | os.PathLike[str] | None = None,
    fractions: Sequence[float] = (0.6125, 0.0875, 0.30),
    seed: int = 0,
    allow_empty: bool = False,
) -> list[Pair]:
    """The pairs of one section: ``"train"``, ``"validation"`` or ``"test"``.

    Where the data set says how it is split, that holds: a table with the columns ``case,section`` and optionally ``patient``, see
    :func:`read_table` (default: the ``split.csv``, .tsv or .xlsx in the folder above the images, if there is one). Otherwise the
    SHA-256 of seed and patient decides, so that neither the other cases nor their order move a case, and ``fractions`` are met on
    average. Where the pairs name a ``diagnosis`` or a ``grade``, the patients of each are put in the order of that hash and cut at
    the fractions instead, so that every section holds every diagnosis (of three patients or more); adding cases may then move
    others.

    Raises:
        ValueError: unknown section, or fractions that are not three shares with the sum 1.
        DataError: an empty section (unless ``allow_empty``), or a split file with an unknown, missing or doubled case, a wrong
            section word, or one patient on two sides.
    """
    if section not in SECTIONS:
        raise ValueError(f"no section {section!r}; {nearest(section, SECTIONS)}")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be three shares (train, validation, test) with the sum 1, got {list(fractions)}")
    if not pairs:
        raise DataError("there are no pairs to split; check dataset_dir")
    image: str | list[str] = pairs[0]["image"]
    folder = Path(image if isinstance(image, str) else image[0]).parent.parent
    table = Path(split_file) if split_file is not None else find_table(folder, "split")
    if table is not None:
        chosen = _read_split(table, pairs)
    else:
        where_of = section_of_patients(pairs, fractions, seed)
        chosen = [(pair, where_of[pair["patient"]]) for pair in pairs]
    picked = [pair for pair, where in chosen if where == section]
    if not picked and not allow_empty:
        raise DataError(
            f"the section {section!r} of the {len(pairs)} cases is empty; write a split.csv with the columns case,section into "
            f"{folder} that names the cases of {', '.join(SECTIONS)}"
        )
    return picked


def fold_pairs(pairs: Sequence[Pair], *, folds: int, fold: int, validation: float = 0.15, seed: int = 0) -> dict[str, list[Pair]]:
    """The sections of one of ``folds`` cross-validation folds: each patient is in ``"test"`` of exactly one ``fold`` (from 0 on).

    The patients, ordered by diagnosis or grade where known and then by the hash of :func:`split_pairs`, are dealt to the folds in
    turn, so that folds differ by one patient at most in size and hold every diagnosis alike. Of the rest, the share ``validation``
    (one patient at least, and not all), spread evenly over the same order, is ``"validation"``, the others ``"train"``.

    Raises:
        ValueError: ``folds`` below 2, ``fold`` outside 0..folds-1, or ``validation`` outside (0, 1).
        DataError: fewer patients than would fill the sections of every fold.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"fold must lie in 0..folds-1 with folds at least 2, got fold {fold} of {folds}")
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share above 0 and below 1, got {validation}")
    stratum = _stratum(pairs)
    stratum_of = {pair["patient"]: pair.get(stratum, "") for pair in pairs}
    patients = sorted(stratum_of, key=lambda patient: (stratum_of[patient], _hash(patient, seed), patient))
    if len(patients) < max(folds, 4):
        raise DataError(f"{len(patients)} patients are too few for {folds} folds; take fewer folds (of at least 4 patients in all)")
    tested = set(patients[fold::folds])
    rest = [patient for patient in patients if patient not in tested]
    count = min(max(1, round(validation * len(rest))), len(rest) - 1)
    held = {rest[int((place + 0.5) * len(rest) / count)] for place in range(count)}
    section_of = {patient: "test" if patient in tested else "validation" if patient in held else "train" for patient in patients}
    return {section: [pair for pair in pairs if section_of[pair["patient"]] == section] for section in SECTIONS}


def _stratum(pairs: Sequence[Pair]) -> str:
    """What the patients are balanced by: the first of diagnosis and grade that every case has; empty where there is none."""
    return next((key for key in ("diagnosis", "grade") if all(key in pair for pair in pairs)), "")


def section_of_patients(pairs: Sequence[Pair], fractions: Sequence[float], seed: int = 0) -> dict[str, str]:
    """The section of every patient where no file says it (see :func:`split_pairs`)."""
    if stratum := _stratum(pairs):
        return _stratified_sections(pairs, stratum, fractions, seed)
    return {pair["patient"]: _hashed_section(pair["patient"], fractions, seed) for pair in pairs}


def _hash(patient: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2**64


def _stratified_sections(pairs: Sequence[Pair], stratum: str, fractions: Sequence[float], seed: int) -> dict[str, str]:
    """The section of every patient, cut within each stratum; no share that is above 0 is left without a patient if it can be."""
    diagnosis_of = {pair["patient"]: pair[stratum] for pair in pairs}
    least = [int(share > 0) for share in fractions]
    found: dict[str, str] = {}
    for diagnosis in set(diagnosis_of.values()):
        patients = sorted((p for p, d in diagnosis_of.items() if d == diagnosis), key=lambda p: (_hash(p, seed), p))
        count = len(patients)
        first = max(0, min(max(round(count * fractions[0]), least[0]), count - least[1] - least[2]))
        second = max(first, min(max(round(count * (fractions[0] + fractions[1])), first + least[1]), count - least[2]))
        for place, patient in enumerate(patients):
            found[patient] = SECTIONS[(place >= first) + (place >= second)]
    return found


def _hashed_section(patient: str, fractions: Sequence[float], seed: int) -> str:
    """The section of a patient: where its hash, as a number in [0, 1), falls among the fractions."""
    place = _hash(patient, seed)
    if place < fractions[0]:
        return "train"
    return "validation" if place < fractions[0] + fractions[1] else "test"


def _read_split(path: Path, pairs: Sequence[Pair]) -> list[tuple[Pair, str]]:
    """Every pair with the section (and patient) that the file gives it."""
    if not os.path.lexists(path):
        raise DataError(f"split file {path} does not exist; write one with the columns case,section, or leave split_file away")
    table = read_table(path)
    words, patients = table.words("section"), table.patients() or [""] * len(table.rows)
    if words is None:
        raise DataError(f"{path} has the columns {list(table.columns)}; it needs case,section (and may have patient)")
    known = {pair["case"]: pair["patient"] for pair in pairs}
    names = Names({pair["case"]: _file_name(pair) for pair in pairs})
    listed: dict[str, tuple[str, str]] = {}
    sides: dict[tuple[str, str], str] = {}
    for (line, name, case), word, given in zip(table.cases(names, "case,section (and may have patient)"), words, patients):
        where = SECTION_WORDS.get(word.lower())
        if case is None:
            raise DataError(f"{path}, line {line}: no image is called {name!r}; {nearest(name, known)}")
        if where is None:
            raise DataError(f"{path}, line {line}: no section {word!r}; {nearest(word, SECTIONS)}")
        if case in listed:
            raise DataError(f"{path}, line {line}: the case {name!r} stands there twice; keep one line per case")
        for source, patient in (("split", given), ("labels", known[case])):
            if patient and sides.setdefault((source, patient), where) != where:
                raise DataError(
                    f"{path}, line {line}: patient {patient!r} is in {sides[source, patient]} and in {where}; keep a patient on "
                    "one side"
                )
        listed[case] = (given or known[case], where)
    missing = sorted(known.keys() - listed.keys())
    if missing:
        raise DataError(f"{path} leaves out {len(missing)} cases ({some(missing)}); give each a section, or remove its files")
    return [({**pair, "patient": listed[pair["case"]][0]}, listed[pair["case"]][1]) for pair in pairs]


def _file_name(pair: Pair) -> str:
    """The name of the image's file; of a case of several files, its own name."""
    return Path(pair["image"]).name if isinstance(pair["image"], str) else pair["case"]
