"""The subjects of an MRI data set: found, annotated, checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monai_advdef.data.annotations import tell_no_patients
from monai_advdef.data.columns import Names, like_patients
from monai_advdef.data.ct.layouts import holds_ct
from monai_advdef.data.mri.checks import check_headers, check_voxels
from monai_advdef.data.mri.layouts import Subject, find_subjects, holds_subjects, left_out, names_series
from monai_advdef.data.tables import find_table, read_table
from monai_advdef.data.tasks import Task, find_task
from monai_advdef.dicom.notes import united
from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written

GRADES = {"high": "high", "hgg": "high", "low": "low", "lgg": "low", "": ""}


@as_written
def subject_items(
    folder: str | os.PathLike[str], task: Task | str, *, voxels: bool = True, skip_bad: bool = False, labelled: bool = True
) -> list[dict[str, Any]]:
    """The subjects of a data-set folder (see :mod:`monai_advdef.data.mri.layouts` for how files are named), before they are split.

    Args:
        voxels: read every voxel (about .1 s a subject at 2 mm, 1 s at 1 mm, a core) to find NaN, series without content, series that
            cover part of the head, unknown labels and corrupt files. ``False``, for a large data set checked before, reads headers
            alone: missing files, shape, spacing, orientation, affine.
        skip_bad: go on without the subjects that cannot be used, and list them in a warning.
        labelled: false for subjects to predict, which need no label.

    Returns:
        Dictionaries with ``image`` (paths in the order of ``task.series``, or the path of one file that holds all of them, whose
        channels ``series_order`` puts in that order), ``label``, ``case``, ``patient``, ``grade`` (``"high"``, ``"low"``, or
        ``""`` where it is not known) and ``label_values`` (the number in the label file for each class), sorted by case.

    Raises:
        DataError: naming subject, file and remedy; of several bad subjects, all. With ``skip_bad``, where none is left.
    """
    task = find_task(task) if isinstance(task, str) else task
    subjects, problems, notes = inspect_subjects(folder, task, voxels=voxels, labelled=labelled)
    if problems:
        told = f"{len(problems)} of {len(subjects)} subjects in {folder} cannot be used:\n  " + "\n  ".join(problems.values())
        if not skip_bad or len(problems) == len(subjects):
            raise DataError(told if len(problems) > 1 else next(iter(problems.values())))
        warnings.warn(f"left out: {told}", stacklevel=2)
    for note in united(notes):
        warnings.warn(note, stacklevel=2)
    return [subject.item(task.series) for index, subject in enumerate(subjects) if index not in problems]


def inspect_subjects(
    folder: str | os.PathLike[str], task: Task, *, voxels: bool = True, labelled: bool = True
) -> tuple[list[Subject], dict[int, str], list[str]]:
    """All subjects, the problem of each that cannot be used (by its place), and notes on what is odd but usable.

    Raises:
        DataError: a folder without subjects, or a ``labels.csv`` or ``dataset.json`` that does not fit.
    """
    root = Path(folder)
    _check_kind(root, task)
    subjects = find_subjects(root, task, labelled=labelled)
    table = find_table(root, "labels")
    if table is not None:
        annotate(subjects, table)

    def inspect(subject: Subject) -> tuple[str, list[str]]:
        try:
            if subject.problems:
                raise DataError("; ".join(subject.problems))
            notes = check_headers(subject)
            return "", notes + (check_voxels(subject, task.series) if voxels else [])
        except DataError as error:
            return str(error), []

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(inspect, subjects))
    problems = {index: problem for index, (problem, _) in enumerate(results) if problem}
    return subjects, problems, left_out(root, subjects) + [note for _, notes in results for note in notes]


def _check_kind(root: Path, task: Task) -> None:
    """Refuse a folder of volumes none of which is called like an MRI series, such as one of CT, before any is said to be missing."""
    if (root / "dataset.json").is_file() or names_series(root) or not (holds_ct(root) or holds_subjects(root)):
        return
    what, remedy = "no volume called like one of these", "for CT choose the task abdomen"
    if holds_ct(root):
        what, remedy = "CT volumes", "choose the task abdomen"
    raise DataError(
        f"{root} holds {what}, and the task {task.name} takes MRI subjects with the series {', '.join(task.series)} "
        f"(subject/t1.nii.gz, ...); {remedy}, or another folder"
    )


def annotate(subjects: Sequence[Subject], table: Path) -> None:
    """Give subjects the ``grade`` and ``patient`` of a table (see :func:`read_table`) with the column ``case`` and one of
    these or both.

    Subjects that the file leaves out, and empty cells, stay as they are.

    Raises:
        DataError: no column ``case``, an unknown subject or grade, or a subject twice.
    """
    read = read_table(table)
    needs = "case, and grade or patient"
    grades, patients = read.words("grade") or [""] * len(read.rows), read.patients()
    if patients is None and like_patients(read.columns):
        tell_no_patients(read, "subject")
    known = {subject.name: subject for subject in subjects}
    names = Names({name: name for name in known})
    seen = set()
    for (line, word, case), told, patient in zip(read.cases(names, needs), grades, patients or [""] * len(read.rows)):
        grade = told.lower()
        if case is None:
            raise DataError(f"{table}, line {line}: no subject is called {word!r}; {nearest(word, known)}")
        if case in seen:
            raise DataError(f"{table}, line {line}: the subject {word!r} stands there twice; keep one line per subject")
        if grade not in GRADES:
            raise DataError(f"{table}, line {line}: no grade {told!r}; {nearest(grade, [name for name in GRADES if name])}")
        seen.add(case)
        known[case].grade = GRADES[grade] or known[case].grade
        known[case].patient = patient or known[case].patient
