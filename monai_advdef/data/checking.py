"""Checking a data-set folder: what it holds, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_advdef.data.ct.layouts import ct_kind, holds_ct
from monai_advdef.data.ct.subjects import inspect_scans
from monai_advdef.data.dataset import data_set_pairs
from monai_advdef.data.decoding import decode
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.core import Layout, find_layout, recognise
from monai_advdef.data.listing import Listing
from monai_advdef.data.mri.checks import read_header
from monai_advdef.data.mri.layouts import holds_subjects
from monai_advdef.data.mri.subjects import inspect_subjects
from monai_advdef.data.notes import noted
from monai_advdef.data.splits import SECTIONS, split_pairs
from monai_advdef.data.tables import find_table
from monai_advdef.data.tasks import find_task
from monai_advdef.errors import DataError


@dataclass
class Report:
    """What a folder holds, for people; it can be used where there are no ``problems``."""

    title: str
    cases: int
    cups: int
    sections: Counter[str]
    diagnoses: Counter[str]
    sizes: Counter[tuple[int, ...]]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    grades: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counted = [(f"{self.cases} cases", self.sections), ("diagnosis", self.diagnoses), ("grade", self.grades)]
        lines = [self.title]
        lines += [f"  {name}: {', '.join(f'{n} {what}' for what, n in counts.items())}" for name, counts in counted if counts]
        lines += [f"  {self.cups} with cup mask"] * bool(self.cups)
        if self.sizes:
            (often, number), least, most = self.sizes.most_common(1)[0], min(self.sizes), max(self.sizes)
            what = "pixels" if len(often) == 2 else "voxels"
            lines.append(f"  {what}: {_by(least)} to {_by(most)}, {number} of {_by(often)}")
        lines += [f"  note: {note}" for note in self.notes] + [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


def check_folder(folder: str | os.PathLike[str], *, layout: str = "", task: str = "") -> Report:
    """Open every file of a data set and tell what it holds and what is wrong with it.

    Args:
        folder: with ``images/`` and ``masks/``, with MRI subjects or CT volumes, or one of :data:`LAYOUTS` as distributed.
        layout: a name of :data:`LAYOUTS`, or ``"plain"``; empty: what it looks like.
        task: of a plain folder; empty: ``"fundus"`` where there is a ``masks_cup/``, ``"lung"`` where there is a ``masks_multi/``,
            ``"abdomen"`` where there are CT volumes, ``"glioma"`` where sub-folders hold other NIfTI files, else ``"skin"``.

    Raises:
        ValueError: unknown layout or task.
        DataError: a folder that is not of that layout. Whatever is wrong with its files is a problem of the report instead.
    """
    with noted() as notes:
        report = _check(Path(folder), layout, task)
    report.notes += [text for text in notes if text not in report.notes]
    return report


def _check(root: Path, layout: str, task: str) -> Report:
    if layout == "plain" or (not layout and recognise(root) is None):
        return _check_plain(root, task)
    chosen = find_layout(root, layout)
    listing = chosen.read(root)
    sizes: Counter[tuple[int, int]] = Counter()
    stretched = 0
    for entry in listing.entries:
        try:
            case = decode(entry, chosen)
        except DataError as error:
            listing.problems.append(str(error))
        else:
            stretched += case.stretched
            sizes[(case.box[2] - case.box[0], case.box[3] - case.box[1])] += 1
    return listing_report(chosen, listing, sizes, stretched)


def _check_plain(root: Path, task: str) -> Report:
    told = {"masks_cup": "fundus", "masks_multi": "lung"}
    other = "abdomen" if holds_ct(root) else "glioma" if holds_subjects(root) else "skin"
    task = task or next((task for name, task in told.items() if (root / name).is_dir()), other)
    if find_task(task).modality == "CT" and ct_kind(root) == "volumes":
        return _check_scans(root, task)
    if find_task(task).series:
        return _check_subjects(root, task)
    report = Report(f"{root}: images and masks, task {task}", 0, 0, Counter(), Counter(), Counter())
    try:
        pairs = data_set_pairs(task, root)
        if find_task(task).multi_classes and (root / "masks_multi").is_dir():
            data_set_pairs(task, root, multi=True)
        report.cases, report.cups = len(pairs), sum("cup" in pair for pair in pairs)
        report.diagnoses = Counter(pair["diagnosis"] for pair in pairs if "diagnosis" in pair)
        report.sizes = Counter(image_size(pair["image"]) for pair in pairs)
        report.sections = Counter({section: len(split_pairs(pairs, section)) for section in SECTIONS})
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
    _count_sections(report, root, [subject.item(about.series) for subject in good], about.split)
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
    _count_sections(report, root, items, about.split)
    return report


def _count_sections(report: Report, root: Path, items: list, fractions: Sequence[float]) -> None:
    """How many of the usable volumes each section has."""
    table = find_table(root, "split")
    try:
        for section in SECTIONS if items else ():
            report.sections[section] = len(split_pairs(items, section, split_file=table, fractions=fractions))
    except DataError as error:
        if table:
            report.problems.append(str(error))
        else:
            report.sections["too few to split, for test_only or a split.csv"] = len(items)


def _by(lengths: tuple[int, ...]) -> str:
    return "x".join(map(str, lengths))


def listing_report(layout: Layout, listing: Listing, sizes: Counter[tuple[int, int]], stretched: int) -> Report:
    """What a distributed data set holds, once its files were decoded: sizes counted, and how many cases have stretched masks."""
    entries = listing.entries
    sections = Counter(entry.section or "without official section" for entry in entries)
    notes = list(listing.notes)
    for section, count in layout.expected.items():
        found = sections[section] if section else len(entries)
        if found != count:
            notes.append(f"the complete set has {count} {f'{section} images' if section else 'images'}, here are {found}")
    if stretched:
        notes.append(f"the masks of {stretched} cases differ in size from their image by up to 1 % and are stretched to it")
    return Report(
        title=f"{layout.title} ({layout.name})",
        cases=len(entries),
        cups=sum(entry.cup is not None for entry in entries),
        sections=sections,
        diagnoses=Counter(entry.diagnosis for entry in entries if entry.diagnosis),
        sizes=Counter(sizes.elements()),
        problems=listing.problems,
        notes=notes,
    )
