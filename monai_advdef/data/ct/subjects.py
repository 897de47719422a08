"""The CT scans of a data set: found, checked, and which organs were outlined in each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_advdef.data.annotations import with_patients
from monai_advdef.data.ct.checks import check_scan
from monai_advdef.data.ct.labels import read_class_map, require_label
from monai_advdef.data.ct.layouts import Scan, ct_kind, find_scans, holds_ct, label_names_file, left_out
from monai_advdef.data.ct.organs import Organs, organ_map, read_label_names
from monai_advdef.data.mri.layouts import names_series
from monai_advdef.data.pairs import image_mask_pairs
from monai_advdef.data.tables import find_table
from monai_advdef.dicom.notes import united
from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written

Annotated = str | Mapping[str, Sequence[str]]


@as_written
def ct_items(
    folder: str | os.PathLike[str],
    *,
    organs: Organs | None = None,
    annotated: Annotated = "",
    voxels: bool = True,
    skip_bad: bool = False,
    labelled: bool = True,
) -> list[dict[str, Any]]:
    """The volumes or slices of a data-set folder (see :mod:`monai_advdef.data.ct.layouts`), before they are split.

    In a partly annotated volume the label 0 stands both for what is no organ and for organs that nobody outlined, and the file does
    not tell which. ``annotated`` says which organs a volume counts for; a loss (:class:`MarginalLoss`) and scores
    (those of :class:`monai_advdef.handlers.RecordHandler`) leave the others out of account.

    Args:
        organs: the classes; None: the default of :func:`organs_of`.
        annotated: ``"present"``, the organs that its label file shows (for volumes, and their default); ``"all"``, every organ, so
            that 0 means background (the default for slices, where a missing organ is out of the picture); or, by case, the names of
            the organs outlined in it, the cases left out as ``"present"``.
        voxels: read every voxel of the images, not of the labels alone.
        skip_bad: go on without the volumes that cannot be used, and list them in a warning.
        labelled: false for volumes to predict, which need no label.

    Returns:
        Dictionaries with ``image`` and ``label`` (paths), ``case``, ``patient``, ``annotated`` (a bool per class, background first),
        ``known_values`` (label values that may occur) and ``grade`` (always ``""``: one stratum, so every section gets a patient).

    Raises:
        DataError: naming file, value and remedy; of several bad volumes, all. With ``skip_bad``, where none is left.
    """
    if labelled and ct_kind(folder) == "slices":
        return _slices(Path(folder), organs or organs_of(folder), annotated)
    items, problems, notes = inspect_scans(folder, organs=organs, annotated=annotated, voxels=voxels, labelled=labelled)
    for note in united(notes):
        warnings.warn(note, stacklevel=2)
    if problems:
        told = f"{len(problems)} of {len(items) + len(problems)} volumes in {folder} cannot be used:\n  " + "\n  ".join(problems)
        if not skip_bad or not items:
            raise DataError(told if len(problems) > 1 else problems[0])
        warnings.warn(f"left out: {told}", stacklevel=2)
    return items


@as_written
def organs_of(folder: str | os.PathLike[str], source: str = "", organs: Sequence[str] | str | None = None) -> Organs:
    """:func:`organ_map` of ``source``; empty: ``"abdomen"`` for a folder of volumes, ``"curvas"`` for one of slices."""
    return organ_map(source or ("curvas" if ct_kind(folder) == "slices" else "abdomen"), organs)


def inspect_scans(
    folder: str | os.PathLike[str],
    *,
    organs: Organs | None = None,
    annotated: Annotated = "",
    voxels: bool = True,
    labelled: bool = True,
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The items of all volumes that can be used, what is wrong with each of the others, and notes on what is odd or left out.

    Raises:
        DataError: a folder without volumes, a ``labels.json``, ``labels.csv`` or ``annotated`` that does not fit.
    """
    root, chosen = Path(folder), organs or organ_map("abdomen")
    if not holds_ct(root) and names_series(root):
        raise DataError(f"{root} holds MRI subjects (t1, flair, ...), this task takes CT; choose the task glioma, or another folder")
    scans = find_scans(root, labelled=labelled)
    table = label_names_file(root) if labelled else None
    names = read_label_names(table) if table else {}
    if names:
        chosen.check_names(names, str(table))
    _check_annotated(annotated, chosen, [scan.name for scan in scans])
    items: list[dict[str, Any]] = []
    problems: list[str] = []
    notes = left_out(root, scans)
    for scan in scans:
        try:
            if scan.problem:
                raise DataError(scan.problem)
            notes += check_scan(scan) if voxels else []
            item = {"image": str(scan.image), "case": scan.name, "patient": scan.patient}
            items.append(item | _label_of(scan, chosen, annotated, names, str(table or "")) if labelled else item)
        except DataError as error:
            problems.append(str(error))
    told = find_table(root, "labels")
    if labelled and items and told is not None:
        items = with_patients(items, told)
    return items, problems, notes


def _label_of(scan: Scan, organs: Organs, annotated: Annotated, names: Mapping[int, str], table: str) -> dict[str, Any]:
    label = require_label(scan)
    found = read_class_map(label, scan.image, organs, known=names, told_by=table).classes
    counts = {*found, *_told(annotated, organs, scan.name)}
    outlined = [number in counts or number == 0 for number in range(organs.classes)]
    if not any(outlined[1:]):
        raise DataError(
            f"{label} shows none of {', '.join(organs.names)}; choose another organ map, say with annotated which organs it counts "
            "for, or move the volume away"
        )
    known = sorted({*names, *organs.known})
    return {"label": str(label), "annotated": outlined, "known_values": known, "grade": ""}


def _told(annotated: Annotated, organs: Organs, case: str) -> list[int]:
    """The classes that a volume is said to be annotated for, whether the label shows them or not."""
    if isinstance(annotated, str):
        return list(range(organs.classes)) if annotated == "all" else []
    return [organs.names.index(name) + 1 for name in annotated.get(case, ())]


def _slices(root: Path, organs: Organs, annotated: Annotated) -> list[dict[str, Any]]:
    """Slices with their masks, checked against ``labels.json`` where there is one."""
    table = label_names_file(root)
    names = read_label_names(table) if table else {}
    if names:
        organs.check_names(names, str(table))
    if annotated not in ("", "all"):
        raise DataError(f"annotated must be 'all' for slices, got {annotated!r}: an organ that a slice lacks is out of the picture")
    known = sorted({*names, *organs.known})
    pairs = image_mask_pairs(root, classes=max(2, known[-1] + 1))
    told = find_table(root, "labels")
    pairs = with_patients(pairs, told) if told is not None else pairs
    about = {"annotated": [True] * organs.classes, "known_values": known, "grade": ""}
    return [{**pair, **about} for pair in pairs]


def _check_annotated(annotated: Annotated, organs: Organs, cases: Sequence[str]) -> None:
    if isinstance(annotated, str):
        if annotated not in ("", "present", "all"):
            raise DataError(f"annotated must be 'present', 'all' or a table of case and organs, got {annotated!r}")
        return
    for case, wanted in annotated.items():
        if case not in cases:
            raise DataError(f"annotated names the case {case!r}, which is not there; {nearest(case, cases)}")
        organs.require(wanted, f"annotated, case {case}")
