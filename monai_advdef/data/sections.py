"""Which case trains, validates and tests, and why a section has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_advdef.data.columns import SECTIONS
from monai_advdef.data.notes import some
from monai_advdef.data.pairs import Pair
from monai_advdef.data.splits import fold_pairs, section_of_patients, split_pairs
from monai_advdef.errors import DataError, nearest

WITHIN_TRAINING = (0.875, 0.125, 0.0)  # where the data set has a test part but no validation part: the same proportion of the two


class Sections(dict[str, list[Pair]]):
    """The cases by section; ``why`` says of an empty section why it is, ``notes`` what one should know of the split.

    ``few``: there are too few patients to split, so that all are for testing.
    """

    def __init__(self, cases: Mapping[str, list[Pair]], why: str = "", notes: Sequence[str] = (), *, few: bool = False) -> None:
        super().__init__({section: list(cases.get(section, ())) for section in SECTIONS})
        self.why, self.notes, self.few = why, list(notes), few


USES = {
    "train": "a training learns from it",
    "validation": "a training chooses its best network by it",
    "test": "an evaluation is made on it",
}


def cases_in(data: Mapping[str, list[Pair]], section: str) -> list[Pair]:
    """The cases of a section that something is to be done with; ``data`` is what :func:`dataset` returns, or lists by section.

    Raises:
        ValueError: an unknown section.
        DataError: the section is empty, and why.
    """
    if section not in data:
        raise ValueError(f"no section {section!r}; {nearest(section, data)}")
    if not data[section]:
        why = data.why if isinstance(data, Sections) else ""
        raise DataError(f"the section {section!r} is empty, but {USES.get(section, 'it is needed')}: {why or 'no case is in it'}")
    return data[section]


def sections_of(
    pairs: Sequence[Pair],
    fractions: Sequence[float],
    *,
    official: Mapping[str, str] | None = None,
    split_file: Path | None = None,
    folds: int = 0,
    fold: int = 0,
) -> Sections:
    """The sections of a data set, whatever the task.

    A ``split_file`` decides, else the ``official`` section of each case, else the hash of the patient (see :func:`split_pairs`).
    Official training and test parts without a validation part give it an eighth of the training part; a training part alone is
    split as if nothing were told. Where the hash leaves a section empty the patients are cut in the order of their hash; where they
    are fewer than three, all cases are for testing.

    Raises:
        DataError: what :func:`split_pairs` and :func:`fold_pairs` refuse, a patient in two official sections, and ``folds`` beside a
            split file.
    """
    if folds and split_file:
        raise DataError(f"{split_file} says how the data set is split; remove it for cross-validation, or leave folds at 0")
    if folds:
        return Sections(fold_pairs(pairs, folds=folds, fold=fold))
    if split_file:
        found = {s: split_pairs(pairs, s, split_file=split_file, fractions=fractions, allow_empty=True) for s in SECTIONS}
        return Sections(found, f"{split_file} puts no case into it; correct the column section")
    told = {pair["case"]: (official or {}).get(pair["case"], "") for pair in pairs}
    if set(told.values()) - {"", "train"}:
        return _official(pairs, told)
    return _hashed(pairs, fractions)


def _official(pairs: Sequence[Pair], told: Mapping[str, str]) -> Sections:
    sections: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sections[pair["patient"]].add(told[pair["case"]] or "no section")
    torn = sorted(patient for patient, where in sections.items() if len(where) > 1)
    if torn:
        raise DataError(
            f"{len(torn)} patient{'s' * (len(torn) > 1)} ({some(torn)}) in more than one section: {torn[0]!r} is in "
            f"{' and in '.join(sorted(sections[torn[0]]))}; keep a patient on one side, or write a split.csv beside it that does"
        )
    found = {section: [pair for pair in pairs if told[pair["case"]] == section] for section in SECTIONS}
    why, notes = "the data set itself puts no case into it; write a split.csv with the columns case,section beside it", []
    if found["train"] and found["test"] and not found["validation"]:
        where_of = section_of_patients(found["train"], WITHIN_TRAINING)
        if len(set(where_of.values())) < 2:
            where_of = section_of_patients(_one_stratum(found["train"]), WITHIN_TRAINING)
        found |= {s: [pair for pair in found["train"] if where_of[pair["patient"]] == s] for s in ("train", "validation")}
        notes.append("no official validation part: an eighth of the training part is taken for it")
    return Sections(found, why, notes)


def _hashed(pairs: Sequence[Pair], fractions: Sequence[float]) -> Sections:
    wanted = {section for section, share in zip(SECTIONS, fractions) if share > 0}
    for cases in (pairs, _one_stratum(pairs)):
        where_of = section_of_patients(cases, fractions)
        if wanted <= set(where_of.values()):
            return Sections({s: [pair for pair in pairs if where_of[pair["patient"]] == s] for s in SECTIONS})
    patients = len({pair["patient"] for pair in pairs})
    why = (
        f"{patients} patient{'s are' if patients > 1 else ' is'} too few to split into {', '.join(SECTIONS)}, so that all cases "
        f"({len(pairs)}) are for testing; to train, add patients (3 at least), or write a split.csv with the columns case,section"
    )
    return Sections({"test": list(pairs)}, why, [why], few=True)


def _one_stratum(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs as if all had one diagnosis, so that they are cut in the order of their hash, and none by where it falls."""
    return [{"case": pair["case"], "patient": pair["patient"], "diagnosis": ""} for pair in pairs]
