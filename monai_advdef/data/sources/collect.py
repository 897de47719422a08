"""The cases of a data set for a task, and what keeps some from being used: what ``check`` tells and loaders do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_advdef.data.annotations import with_diagnoses, with_patients
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.ct.subjects import Annotated
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.rows import Listed
from monai_advdef.data.notes import note
from monai_advdef.data.pairs import Pair
from monai_advdef.data.sources.distributed import decoded_pairs
from monai_advdef.data.sources.find import Source
from monai_advdef.data.sources.pictures import meaning_of, part_of, picture_pairs
from monai_advdef.data.sources.volumes import scan_items, series_items
from monai_advdef.data.tasks import Task
from monai_advdef.data.volume_files import read_header
from monai_advdef.dicom.notes import united
from monai_advdef.errors import DataError


@dataclass
class Collected:
    """The cases of a data set that can be used (``pairs``), the official ``section`` of each, and what is said of the others.

    ``notes`` tell what is left out or taken otherwise than one might think, ``remarks`` what a complete copy would hold; ``sizes``
    counts image sizes in pixels or voxels.
    """

    pairs: list[Pair] = field(default_factory=list)
    section: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)

    def usable(self, where: object, *, skip_bad: bool = False) -> list[Pair]:
        """The cases, or an error.

        Raises:
            DataError: there are problems (all are named), or with ``skip_bad`` no case is left; otherwise problems are a warning.
        """
        for text in united(self.notes):
            note(text)
        if self.problems:
            told = self.problems[0]
            if len(self.problems) > 1:
                told = f"{len(self.problems)} problems in {where}:\n  " + "\n  ".join(self.problems)
            if not skip_bad or not self.pairs:
                raise DataError(told)
            note(f"left out: {told}")
        if not self.pairs:
            raise DataError(f"no case in {where} can be used; monai-advdef check {where} tells what it holds")
        return self.pairs


@dataclass(frozen=True)
class Options:
    """How a task takes its cases, see :func:`~monai_advdef.data.dataset`; ``store`` gets the files that have to be written."""

    store: Path
    cups: bool = True
    multi: bool = False
    organs: Organs | None = None
    annotated: Annotated = ""
    voxels: bool = True


def collect(source: Source, task: Task, options: Options) -> Collected:
    """All cases of a data set for a task, before they are split; what is wrong is a problem of the result.

    Raises:
        ValueError: ``multi`` where the task has one set of classes.
    """
    if options.multi and not task.multi_classes:
        raise ValueError(
            f"multi must be false for the task {task.name!r}, which has no finer classes than {', '.join(task.classes)}"
        )
    found = Collected()
    try:
        if source.layout is not None:
            _decoded(source, task, options, found)
        elif source.listed is not None:
            found.problems += source.listed.problems
            found.notes += source.listed.notes
            found.section = {row.case: row.section for row in source.listed.rows if row.section}
            if source.listed.rows:
                _listed(source, source.listed, task, options, found)
    except DataError as error:
        found.problems.append(str(error))
    return found


def _decoded(source: Source, task: Task, options: Options, found: Collected) -> None:
    assert source.layout is not None
    if task.spatial_dims != 2:
        raise DataError(f"{source.root} is {source.title}, pictures; the task {task.name} takes volumes: choose {source.task}")
    listing = source.layout.read(source.root)
    found.problems, found.notes = listing.problems, listing.notes
    found.pairs, problems, sizes, stretched = decoded_pairs(
        source.layout, listing.entries, options.store, cups=options.cups and bool(task.diagnoses), multi=options.multi
    )
    found.problems += problems
    found.pairs = with_tables(source, found.pairs, task)
    found.section = {entry.case: entry.section for entry in listing.entries if entry.section}
    found.sizes.update(sizes)
    found.remarks = source.layout.remarks(listing.entries, stretched)


def _listed(source: Source, listed: Listed, task: Task, options: Options, found: Collected) -> None:
    if listed.volumes != (task.spatial_dims == 3) and not (task.modality == "CT" and not listed.volumes):
        kind, wanted = ("volumes", "pictures") if listed.volumes else ("pictures", "volumes")
        raise DataError(f"{source.root} holds {kind}, the task {task.name} takes {wanted}; choose another task")
    if listed.volumes:
        _volumes(source, listed, task, options, found)
        return
    organs = options.organs
    classes = ("background", *organs.names) if organs else task.multi_classes if options.multi else task.classes
    meaning, notes = meaning_of(listed, classes, f"{source.root} ({source.title})", partial=organs is not None)
    if organs:
        meaning = replace(meaning, written=(0, *(values[0] for values in organs.values.values())))
    cup = part_of(listed, task.parts[0]) if task.parts and options.cups else None
    found.pairs, problems, more = picture_pairs(listed, meaning, options.store, cup=cup)
    found.problems += problems
    found.notes += [*notes, *more]
    found.sizes.update(image_size(pair["image"]) for pair in found.pairs)
    if organs:
        told = {*meaning.values.values(), *meaning.structures.values()} or set(range(organs.classes))
        outlined = [number == 0 or number in told for number in range(organs.classes)]
        about: dict[str, Any] = {"annotated": outlined, "known_values": sorted(organs.known), "grade": ""}
        found.pairs = [{**pair, **about} for pair in found.pairs]
    found.pairs = with_tables(source, found.pairs, task)


def with_tables(source: Source, pairs: list[Pair], task: Task) -> list[Pair]:
    """The pairs with the patients and diagnoses of the table ``labels``, where there is one and nothing else tells them."""
    patients = all(pair["patient"] == pair["case"] for pair in pairs)
    diagnoses = bool(task.diagnoses) and not any("diagnosis" in pair for pair in pairs)
    table = source.table("labels") if pairs and (patients or diagnoses) else None
    if table and patients:
        pairs = with_patients(pairs, table)
    return with_diagnoses(pairs, table, task.diagnoses) if table and diagnoses else pairs


def _volumes(source: Source, listed: Listed, task: Task, options: Options, found: Collected) -> None:
    if task.modality == "CT":
        assert options.organs is not None
        items, problems, notes = scan_items(
            listed, options.organs, options.store, annotated=options.annotated, voxels=options.voxels
        )
    else:
        items, problems, notes = series_items(listed, task, options.store, voxels=options.voxels)
    found.pairs, found.notes = items, [*found.notes, *notes]
    found.problems += problems
    found.sizes.update(read_header(Path(item["label"])).shape[:3] for item in items)
    found.pairs = with_tables(source, found.pairs, task)
