"""The data set of a task: the user's folder, or phantom images made where none is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_advdef.data.annotations import with_cups, with_diagnoses, with_patients
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.ct.subjects import Annotated, ct_items, organs_of
from monai_advdef.data.layouts.core import recognise
from monai_advdef.data.mri.subjects import subject_items
from monai_advdef.data.pairs import Pair, image_mask_pairs
from monai_advdef.data.splits import SECTIONS, fold_pairs, split_pairs
from monai_advdef.data.tasks import find_task
from monai_advdef.errors import DataError
from monai_advdef.phantoms.write import write_phantoms
from monai_advdef.switches import as_written, truth


@as_written
def dataset(
    task: str,
    dataset_dir: str | os.PathLike[str] = "",
    phantom_dir: str | os.PathLike[str] = "phantom",
    *,
    phantoms: int = 72,
    cups: bool = True,
    multi: bool = False,
    test_only: bool = False,
    folds: int = 0,
    fold: int = 0,
    voxels: bool = True,
    skip_bad: bool = False,
    organ_map: str = "",
    organs: Sequence[str] | None = None,
    annotated: Annotated = "",
) -> dict[str, list[Pair]]:
    """The files of a task by section.

    Args:
        task: a key of :data:`TASKS`.
        dataset_dir: a folder with ``images/`` and ``masks/``, and ``split.csv`` if the split is fixed by hand; for optic discs also
            ``masks_cup/``, where they are known; ``labels.csv`` may tell the diagnosis of an optic disc (``image,diagnosis``) and
            the patient of any image (``image,patient``; else every image is a patient). For gliomas a folder of subjects (see
            :mod:`mri_layouts`), whose ``labels.csv`` may tell ``case,grade,patient``. Empty: phantoms.
        phantom_dir: where the phantom images are, or are made.
        phantoms: how many to make.
        multi: take the masks of ``masks_multi/``, which hold the numbers of the task's ``multi_classes``.
        test_only: every case is a test case: the images of another camera, for networks trained elsewhere.
        cups: look for ``masks_cup/``; ``False`` where only some of the images have a cup mask, and none is needed.
        folds: the sections of cross-validation fold ``fold`` (0..folds-1) instead of one split, see :func:`fold_pairs`; 0: none.
        voxels: of volumes, read every voxel to check them, not the headers alone, see :func:`subject_items`.
        skip_bad: of volumes, go on without the subjects that cannot be used, and list them in a warning.
        organ_map, organs: of CT, which label values are which class, see :func:`organs_of`.
        annotated: of CT, which organs a volume counts for, see :func:`ct_items`.

    Returns:
        ``{"train": [...], "validation": [...], "test": [...]}`` of dictionaries with ``image``, ``label``, ``case`` and ``patient``,
        and all of them or none with ``cup`` (a mask file) and with ``diagnosis`` (a word of the task's ``diagnoses``). For gliomas
        ``image`` is a list of four files, and there are also the entries that :func:`subject_items` describes; for CT those of
        :func:`ct_items`.

    Raises:
        ValueError: unknown task, ``multi`` where the task has one set of classes, or ``fold`` that is none of ``folds``.
        DataError: see :func:`data_set_pairs`, :func:`split_pairs` and :func:`fold_pairs`; or ``folds`` where a ``split.csv`` says
            how the data set is split.
    """
    folder = Path(dataset_dir or phantom_dir)
    if not dataset_dir:
        write_phantoms(task, folder, cases=phantoms)
    chosen = organs_of(folder, organ_map, organs) if find_task(task).modality == "CT" else None
    options: dict[str, Any] = {"organs": chosen, "annotated": annotated, "voxels": voxels, "skip_bad": truth("skip_bad", skip_bad)}
    pairs = data_set_pairs(task, folder, cups=cups, multi=multi, **options)
    if truth("test_only", test_only):
        return {"train": [], "validation": [], "test": pairs}
    return _sections(pairs, folder / "split.csv", find_task(task).split, folds, fold)


def _sections(pairs: list[Pair], table: Path, fractions: Sequence[float], folds: int, fold: int) -> dict[str, list[Pair]]:
    fixed = table if table.exists() else None
    if not folds:
        return {section: split_pairs(pairs, section, split_file=fixed, fractions=fractions) for section in SECTIONS}
    if fixed:
        raise DataError(f"{table} says how the data set is split; remove it for cross-validation, or leave folds at 0")
    return fold_pairs(pairs, folds=folds, fold=fold)


@as_written
def data_set_pairs(
    task: str,
    folder: str | os.PathLike[str],
    *,
    cups: bool = True,
    multi: bool = False,
    organs: Organs | None = None,
    annotated: Annotated = "",
    voxels: bool = True,
    skip_bad: bool = False,
) -> list[Pair]:
    """All cases of a data-set folder, before they are split.

    Raises:
        ValueError: unknown task, or ``multi`` where the task has one set of classes.
        DataError: a distributed folder that is not converted yet; else see :func:`image_mask_pairs`, :func:`with_cups`,
            :func:`with_diagnoses` and :func:`with_patients`, of volumes :func:`subject_items`.
    """
    root, about = Path(folder), find_task(task)
    if multi and not about.multi_classes:
        raise ValueError(f"multi must be false for the task {task!r}, which has no finer classes than {', '.join(about.classes)}")
    if about.modality == "CT":
        return ct_items(root, organs=organs, annotated=annotated, voxels=voxels, skip_bad=skip_bad)
    if about.series:
        return subject_items(root, about, voxels=voxels, skip_bad=skip_bad)
    layout = recognise(root)
    if layout is not None:
        raise DataError(
            f"{root} is {layout.title} as it is distributed; convert it once: monai-advdef prepare {root} DIR, and give DIR"
        )
    masks, classes = ("masks_multi", about.multi_classes) if multi else ("masks", about.classes)
    pairs = image_mask_pairs(root, masks=masks, classes=len(classes))
    if about.diagnoses and cups and (root / "masks_cup").is_dir():
        pairs = with_cups(pairs, root / "masks_cup")
    if (root / "labels.csv").is_file():
        pairs = with_patients(pairs, root / "labels.csv")
        if about.diagnoses:
            pairs = with_diagnoses(pairs, root / "labels.csv", about.diagnoses)
    return pairs
