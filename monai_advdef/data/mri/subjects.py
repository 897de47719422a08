"""The subjects of an MRI data set: found, annotated, checked."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monai_advdef.data.mri.checks import check_headers, check_voxels
from monai_advdef.data.mri.layouts import Subject, find_subjects
from monai_advdef.data.tasks import Task, find_task
from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written

GRADES = {"high": "high", "hgg": "high", "low": "low", "lgg": "low", "": ""}


@as_written
def subject_items(
    folder: str | os.PathLike[str], task: Task | str, *, voxels: bool = True, skip_bad: bool = False, labelled: bool = True
) -> list[dict[str, Any]]:
    """The subjects of a data-set folder (see :mod:`mri_layouts` for how files are named), before they are split.

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
    for note in notes:
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
    subjects = find_subjects(root, task, labelled=labelled)
    if (root / "labels.csv").is_file():
        annotate(subjects, root / "labels.csv")

    def inspect(subject: Subject) -> tuple[str, list[str]]:
        try:
            if subject.problems:
                raise DataError("; ".join(subject.problems))
            check_headers(subject)
            return "", check_voxels(subject, task.series) if voxels else []
        except DataError as error:
            return str(error), []

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(inspect, subjects))
    problems = {index: problem for index, (problem, _) in enumerate(results) if problem}
    return subjects, problems, [note for _, notes in results for note in notes]


def annotate(subjects: Sequence[Subject], table: Path) -> None:
    """Give subjects the ``grade`` and ``patient`` of a CSV file with the column ``case`` (or ``image``) and one of these or both.

    Subjects that the file leaves out, and empty cells, stay as they are.

    Raises:
        DataError: no column ``case``, an unknown subject or grade, or a subject twice.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or ()
        rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    key = next((name for name in ("case", "image") if name in columns), "")
    if not key:
        raise DataError(f"{table} has the columns {list(columns)}; it needs case, and grade or patient")
    known = {subject.name: subject for subject in subjects}
    seen = set()
    for line, row in enumerate(rows, start=2):
        name, grade = row[key], row.get("grade", "").lower()
        if name not in known:
            raise DataError(f"{table}, line {line}: no subject is called {name!r}; {nearest(name, known)}")
        if name in seen:
            raise DataError(f"{table}, line {line}: the subject {name!r} stands there twice; keep one line per subject")
        if grade not in GRADES:
            raise DataError(f"{table}, line {line}: no grade {row['grade']!r}; {nearest(grade, [word for word in GRADES if word])}")
        seen.add(name)
        known[name].grade = GRADES[grade] or known[name].grade
        known[name].patient = row.get("patient", "") or known[name].patient
