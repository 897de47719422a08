"""Checking a data-set folder: what it holds, and what is wrong with it."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.data.ct.layouts import ct_kind
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.ct.subjects import inspect_scans, organs_of
from monai_advdef.data.datasets import data_set_pairs
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.rows import inside
from monai_advdef.data.mri.subjects import inspect_subjects
from monai_advdef.data.notes import noted
from monai_advdef.data.pairs import MASK_TYPES, Pair
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.sections import sections_of
from monai_advdef.data.sources.collect import Collected, Options, collect
from monai_advdef.data.sources.find import Patterns, Source, find_source, guess_task, with_values
from monai_advdef.data.sources.meaning import parse_values
from monai_advdef.data.sources.report import Report
from monai_advdef.data.tables import find_table
from monai_advdef.data.tasks import TASKS, Task, find_task
from monai_advdef.data.volume_files import read_header
from monai_advdef.dicom.notes import united
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

MANY = 64  # above, values in masks are grey levels and no class numbers


@as_written
def check_folder(
    folder: str | os.PathLike[str],
    *,
    layout: str = "",
    task: str = "",
    images: Patterns = None,
    masks: Patterns = None,
    values: Any = None,
    multi: bool = False,
) -> Report:
    """Open every file of a data set and tell what it holds, what of it will be used, and what is wrong with it.

    Args:
        folder: with ``images/`` and ``masks/``, MRI subjects or CT volumes, in one of the layouts that are known, or a list file.
        layout: a name of :data:`LAYOUTS` or :data:`DIRECT`, or ``"plain"``; empty: what it looks like.
        task: what it is to be used for; empty: what it looks like.
        images, masks, values, multi: as :func:`~monai_advdef.data.dataset` takes them.

    Raises:
        ValueError: unknown layout or task, patterns or values that are none.
        DataError: a folder that is not of that layout, or of none that is known. Whatever is wrong with its files is a problem of
            the report instead.
    """
    with noted() as notes:
        report = _check(Path(folder), layout, task, images, masks, values, multi)
    report.notes = united([*report.notes, *notes])
    return report


def _check(root: Path, layout: str, task: str, images: Patterns, masks: Patterns, values: Any, multi: bool) -> Report:
    about = find_task(task) if task else None
    source = find_source(root, layout=layout, images=images, masks=masks, values=values, task=task, multi=multi)
    if source.plain:
        numbers = _class_numbers(source) if not task else ""
        report = _unnamed_numbers(source, numbers) if numbers else _check_plain(source.root, find_task(source.task))
        why = "" if task or numbers else f" (task {source.task}: a guess, --task says another)"
        report.recognised = f"recognised as {source.title} because {source.reason}{why}"
        if report.problems and not task and not numbers:
            text = f"if it is not for {source.task}, the problems may be none: say what it is by --task, or --images and --masks"
            report.notes.append(text)
        return report
    with tempfile.TemporaryDirectory() as store:
        return source_report(source, about.name if about else "", values, Path(store), multi)[0]


def _class_numbers(source: Source) -> str:
    """The values in the masks of a plain folder that nothing tells the task of, where they are more than one structure's."""
    masks = [path for path in inside(source.root / "masks") if path.suffix.lower() in MASK_TYPES]
    if source.task != "skin":
        return ""
    held: set[int] = set()
    for path in masks:
        try:
            held |= set(np.unique(read_mask(path)).tolist())
        except (DataError, OSError):
            return ""  # the check itself says it
    several = len(held - {0}) > 1 and max(held) < MANY
    return ", ".join(map(str, sorted(held))) if several else ""


def _unnamed_numbers(source: Source, numbers: str) -> Report:
    """The report on pictures whose masks hold class numbers that nothing names."""
    report = Report(f"{source.root}: {source.title}", 0, 0, Counter(), Counter(), Counter())
    report.problems.append(
        f"the masks hold the class numbers {numbers}, and nothing tells of what; say what it is by --task (abdomen: slices of CT), "
        "or by --task and --values (stored value=class)"
    )
    return report


def source_report(
    source: Source, task: str, values: Any, store: Path, multi: bool
) -> tuple[Report, Collected, Task | None, Organs | None]:
    """The report on a data set that is used where it lies, or decoded first, by the code that loads it; and what was loaded.

    Args:
        store: gets the files that have to be written.
    """
    guess, why = guess_task(source)
    report = Report(f"{source.root}: {source.title}", 0, 0, Counter(), Counter(), Counter())
    report.recognised = f"recognised as {source.title} because {source.reason}"
    listed = source.listed
    if not task and guess:
        report.recognised += f"; task {guess}, because {why} (--task says another)"
    named = bool(listed and listed.rows and (listed.volumes or listed.class_names or listed.rows[0].structures))
    if not task and not guess and listed is not None and named:
        report.cases, report.notes = len(listed.rows), listed.notes
        report.problems = [*listed.problems, _no_task(source)]
        return report, Collected(), None, None
    about = find_task(task or guess or "skin")
    if not task and not guess and listed and listed.rows:
        about = replace(about, classes=_unnamed(values))
        report.notes.append(
            "nothing tells the task (skin, fundus, lung): checked as pictures with the structures that its masks hold"
        )
    report.volumes = bool(listed and listed.rows and listed.volumes)
    organs = organs_of(source.root, "abdomen" if report.volumes else "curvas") if about.modality == "CT" else None
    source = with_values(source, values, about, multi=multi, organs=organs)
    found = collect(source, about, Options(store, multi=multi, organs=organs))
    report.problems += found.problems
    report.notes += [*found.notes, *found.remarks]
    report.cases, report.sizes = len(found.pairs), found.sizes
    report.cups = sum("cup" in pair for pair in found.pairs)
    report.diagnoses = Counter(pair["diagnosis"] for pair in found.pairs if "diagnosis" in pair)
    _count_sections(report, source.root, found.pairs, about.split, source.split_file, found.section)
    if source.layout is not None:
        split = ", ".join(f"{count} {section}" for section, count in report.sections.items())
        report.notes.append(f"used as: {split}")
        report.sections = Counter(found.section.get(pair["case"], "without official section") for pair in found.pairs)
    return report, found, about, organs


def _unnamed(values: Any) -> tuple[str, ...]:
    """Classes without names, as many as the values tell of."""
    return ("background", *(f"structure {number}" for number in range(1, max([1, *parse_values(values).values()]) + 1)))


def _no_task(source: Source) -> str:
    """The problem of a data set that is made for none of the tasks, as far as it tells."""
    assert source.listed is not None
    row = source.listed.rows[0]
    names = [name for value, name in source.listed.class_names.items() if value] or list(row.structures)
    known = "; ".join(f"{task.name} ({', '.join(task.classes[1:])})" for task in TASKS.values())
    what = f"it names the structures {', '.join(names[:8])}" if names else "it does not tell what its labels mean"
    images = f" and the images {', '.join(source.listed.channels)}" if source.listed.channels else ""
    return (
        f"{what}{images}, from which none of the tasks follows: {known}; to use it for one of these, give --task, and --values "
        "(stored value=class) where its values mean something else"
    )


def _check_plain(root: Path, about: Task) -> Report:
    task = about.name
    if about.modality == "CT" and ct_kind(root) == "volumes":
        return _check_scans(root, task)
    if about.series:
        return _check_subjects(root, task)
    report = Report(f"{root}: images and masks, task {task}", 0, 0, Counter(), Counter(), Counter())
    try:
        pairs = data_set_pairs(task, root)
        if about.multi_classes and (root / "masks_multi").is_dir():
            data_set_pairs(task, root, multi=True)
        report.cases, report.cups = len(pairs), sum("cup" in pair for pair in pairs)
        report.diagnoses = Counter(pair["diagnosis"] for pair in pairs if "diagnosis" in pair)
        report.sizes = Counter(image_size(pair["image"]) for pair in pairs)
        _count_sections(report, root, pairs, about.split, find_table(root, "split"))
    except DataError as error:
        report.problems.append(str(error))
    return report


def _check_subjects(root: Path, task: str) -> Report:
    report = Report(f"{root}: subjects, task {task}", 0, 0, Counter(), Counter(), Counter())
    about = find_task(task)
    try:
        subjects, problems, report.notes = inspect_subjects(root, about)
    except DataError as error:
        report.problems.append(str(error))
        return report
    report.problems += problems.values()
    good = [subject for index, subject in enumerate(subjects) if index not in problems]
    report.cases, report.grades = len(subjects), Counter(subject.grade or "unknown" for subject in good)
    report.sizes = Counter(read_header(subject.files["seg"]).shape for subject in good)
    report.sections = Counter({"that cannot be used": len(problems)} if problems else {})
    _count_sections(report, root, [subject.item(about.series) for subject in good], about.split, find_table(root, "split"))
    return report


def _check_scans(root: Path, task: str) -> Report:
    report = Report(f"{root}: CT volumes, task {task}", 0, 0, Counter(), Counter(), Counter())
    about = find_task(task)
    try:
        items, problems, report.notes = inspect_scans(root)
    except DataError as error:
        report.problems.append(str(error))
        return report
    report.problems += problems
    report.cases = len(items) + len(problems)
    report.sizes = Counter(read_header(Path(item["image"])).shape for item in items)
    report.sections = Counter({"that cannot be used": len(problems)} if problems else {})
    for item in items:
        absent = [name for name, there in zip(about.classes, item["annotated"]) if not there]
        if absent:
            report.notes.append(f"{item['case']} shows no {', '.join(absent)}: taken as not annotated, see the option annotated")
    _count_sections(report, root, items, about.split, find_table(root, "split"))
    return report


def _count_sections(
    report: Report,
    root: Path,
    pairs: list[Pair],
    fractions: Sequence[float],
    table: Path | None,
    official: Mapping[str, str] | None = None,
) -> None:
    """How many of the usable cases each section has, and how many patients they are."""
    if not pairs:
        report.problems += [] if report.problems else [f"no case in {root} can be used"]
        return
    try:
        sections = sections_of(pairs, fractions, official=official, split_file=table)
    except DataError as error:
        report.problems.append(str(error))
        return
    counts = {section: len(cases) for section, cases in sections.items()}
    report.sections.update({"too few to split, for testing only": len(pairs)} if sections.few else counts)
    report.patients = len({pair["patient"] for cases in sections.values() for pair in cases})
    report.notes += sections.notes
    empty = [section for section, cases in sections.items() if not cases]
    if empty and not sections.notes:
        report.notes.append(f"no case in the section{'s' * (len(empty) > 1)} {', '.join(empty)}: {sections.why}")
