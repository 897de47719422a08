"""Converting a data set whose files are used where they lie into the house's own form: pictures, CT volumes, subjects of MRI."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.data.checking import source_report
from monai_advdef.data.layouts.rows import is_volume
from monai_advdef.data.pairs import Pair
from monai_advdef.data.sections import Sections, sections_of
from monai_advdef.data.sources.find import Source
from monai_advdef.data.sources.report import Report
from monai_advdef.data.sources.volumes import save_volume
from monai_advdef.data.tasks import Task
from monai_advdef.data.volume_files import read_header, read_volume, whole_values
from monai_advdef.errors import DataError


def prepare_listed(source: Source, goal: Path, *, task: str = "", values: Any = None, multi: bool = False) -> Report:
    """Write the cases of a source into ``goal``, with their sections and patients in ``split.csv``.

    Raises:
        DataError: a problem that :func:`check_folder` would report, or a plain folder, which needs no conversion.
    """
    if source.plain:
        raise DataError(f"{source.root} is {source.title} already; give it as dataset_dir")
    with tempfile.TemporaryDirectory() as store:
        report, found, about, organs = source_report(source, task, values, Path(store), multi)
        if report.problems or about is None:
            problems = "; ".join(report.problems[:3]) or "it is made for no task: give --task"
            raise DataError(f"{source.root} cannot be used as {source.title}: {problems}; monai-advdef check lists all problems")
        goal.mkdir(parents=True)
        for pair in found.pairs:
            pair["case"] = pair["case"].replace("/", "_")
            if about.series:
                _write_subject(pair, about, goal)
            else:
                _write_case(pair, goal, "masks_multi" if multi else "masks")
        if organs and report.volumes:
            names = {0: "background"} | {value: organ for organ, held in organs.values.items() for value in held}
            (goal / "labels.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
        sections = sections_of(found.pairs, about.split, official=found.section, split_file=source.split_file)
        write_tables(sections, goal)
    return report


def _write_case(pair: Pair, goal: Path, masks: str) -> None:
    """A picture or CT volume and its label."""
    image, label = Path(pair["image"]), Path(pair["label"])
    if image.is_dir():
        shutil.copytree(image, goal / "dicom" / pair["case"])
        link(label, goal / "dicom" / f"{pair['case']}_label{_ending(label)}")
        return
    link(image, goal / "images" / f"{pair['case']}{_ending(image)}")
    link(label, goal / ("labels" if is_volume(image) else masks) / f"{pair['case']}{_ending(label)}")
    if "cup" in pair:
        link(Path(pair["cup"]), goal / "masks_cup" / f"{pair['case']}{_ending(label)}")


def _write_subject(item: dict[str, Any], task: Task, goal: Path) -> None:
    """The four series and the label of a subject, the latter with the values of the task."""
    folder = goal / item["case"]
    for place, series in enumerate(task.series):
        if isinstance(item["image"], str):
            image = read_header(Path(item["image"]))
            voxels = read_volume(Path(item["image"]))[0][..., item["series_order"][place]]
            folder.mkdir(parents=True, exist_ok=True)
            save_volume(voxels, image.affine, folder / f"{series}.nii.gz")
        else:
            path = Path(item["image"][place])
            link(path, folder / f"{series}{_ending(path)}") if path.is_file() else shutil.copytree(path, folder / series)
    label = Path(item["label"])
    if tuple(item["label_values"]) == task.label_values:
        link(label, folder / f"seg{_ending(label)}")
        return
    stored, header = whole_values(read_volume(label)[0]), read_header(label)
    values = np.zeros(stored.shape, np.uint8)
    for held, value in zip(item["label_values"], task.label_values):
        values[stored == held] = value
    save_volume(values, header.affine, folder / "seg.nii.gz")


def write_tables(sections: Sections, goal: Path) -> None:
    """``split.csv`` with the section and the patient of every case, and ``labels.csv`` where every case has a diagnosis."""
    pairs = sorted(((pair, section) for section in sections for pair in sections[section]), key=lambda found: found[0]["case"])
    rows: dict[str, list[tuple[str, ...]]] = {
        "split": [("case", "section", "patient"), *((pair["case"], section, pair["patient"]) for pair, section in pairs)]
    }
    if all("diagnosis" in pair for pair, _ in pairs):
        rows["labels"] = [("image", "diagnosis"), *((pair["case"], pair["diagnosis"]) for pair, _ in pairs)]
    for name, lines in rows.items():
        with (goal / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)


def _ending(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def link(source: Path, path: Path) -> None:
    """Hard-link a file, or copy it where that is not possible; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), path)
    except OSError:
        shutil.copyfile(source, path)
