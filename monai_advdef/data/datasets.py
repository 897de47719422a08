"""The data set of a task: the user's folder, or phantom images made where none is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_advdef.data.annotations import with_cups, with_diagnoses, with_patients
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.ct.subjects import Annotated, ct_items, organs_of
from monai_advdef.data.layouts.by_pattern import suffix_of
from monai_advdef.data.mri.subjects import subject_items
from monai_advdef.data.pairs import Pair, image_mask_pairs
from monai_advdef.data.sections import Sections, sections_of
from monai_advdef.data.sources.collect import Options, collect
from monai_advdef.data.sources.find import Patterns, Source, find_source, with_values
from monai_advdef.data.tables import find_table
from monai_advdef.data.tasks import Task, find_task
from monai_advdef.phantoms.write import write_phantoms
from monai_advdef.switches import as_written

STORE = "converted"  # the folder beside the phantoms for masks that have to be joined or re-valued


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
    organs: Sequence[str] | str | None = None,
    annotated: Annotated = "",
    images: Patterns = None,
    masks: Patterns = None,
    values: Any = None,
) -> Sections:
    """The files of a task (a key of :data:`TASKS`) by section.

    Args:
        dataset_dir: ``images/`` and ``masks/``, perhaps ``masks_cup/``, ``split.csv`` (a split fixed by hand), ``labels.csv`` (the
            patient of any image, the diagnosis of an optic disc; else an image is a patient); of gliomas subjects, see
            :mod:`monai_advdef.data.mri.layouts`. Or any layout of :mod:`~monai_advdef.data.layouts.core`, or a list file, see
            :mod:`~monai_advdef.data.sources.lists`. Empty: phantoms.
        phantom_dir, phantoms: where they are, or are made, and how many; masks that are joined or re-valued are written beside it.
        multi: take the masks of ``masks_multi/``, which hold the numbers of the task's ``multi_classes``.
        test_only: every case is a test case: the images of another camera, for networks trained elsewhere.
        cups: look for ``masks_cup/``; ``False`` where only some of the images have a cup mask, and none is needed.
        folds: the sections of cross-validation fold ``fold`` (0..folds-1), see :func:`fold_pairs`; 0: one split.
        voxels: of volumes, read every voxel to check them, not the headers alone, see :func:`subject_items`.
        skip_bad: of volumes, go on without the subjects that cannot be used, and list them in a warning.
        organ_map, organs, annotated: of CT, see :func:`organs_of` (which label values are which class) and :func:`ct_items`.
        images, masks: patterns of file names below ``dataset_dir``, see :func:`find_source`; of gliomas four patterns of images.
        values: what is stored in masks, as class numbers, ``"0=2,128=1,255=0"``.

    Returns:
        ``{"train": [...], "validation": [...], "test": [...]}`` (see :class:`Sections`) of dictionaries with ``image``, ``label``,
        ``case`` and ``patient``, all or none with ``cup`` (a mask file) and ``diagnosis``; of volumes those of
        :func:`subject_items`, whose ``image`` is a list of four files, and :func:`ct_items`.

    Raises:
        ValueError: unknown task, ``multi`` where it has one set of classes, ``fold`` that is none of ``folds``, wrong patterns.
        DataError: see :func:`find_source`, :func:`data_set_pairs` and :func:`sections_of`.
    """
    told = dataset_dir is not None and str(dataset_dir) != ""
    about, folder = find_task(task), Path(str(dataset_dir) if told else phantom_dir)
    if not told:
        if images or masks or values:
            raise ValueError("images, masks and values tell of the files of dataset_dir; give it too")
        write_phantoms(task, folder, cases=phantoms)
    source = find_source(folder, images=images, masks=masks, values=values, task=task, multi=multi)
    chosen = organs_of(folder, organ_map, organs) if about.modality == "CT" else None
    options = Options(Path(phantom_dir).parent / STORE, cups, multi, chosen, annotated, voxels)
    pairs, official = _cases(source, about, options, values=values, skip_bad=skip_bad)
    if test_only:
        return Sections({"test": pairs}, "test_only says that all cases are for testing")
    return sections_of(pairs, about.split, official=official, split_file=source.split_file, folds=folds, fold=fold)


def _cases(source: Source, about: Task, options: Options, *, values: Any, skip_bad: bool) -> tuple[list[Pair], dict[str, str]]:
    """All cases of a source, and the official section of those that it tells."""
    if not source.plain:
        found = collect(with_values(source, values, about, multi=options.multi, organs=options.organs), about, options)
        return found.usable(source.root, skip_bad=skip_bad), found.section
    read: dict[str, Any] = {"organs": options.organs, "annotated": options.annotated, "voxels": options.voxels}
    return data_set_pairs(about.name, source.root, cups=options.cups, multi=options.multi, skip_bad=skip_bad, **read), {}


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
        DataError: see :func:`image_mask_pairs`, :func:`with_cups`, :func:`with_diagnoses` and :func:`with_patients`, of volumes
            :func:`subject_items` and :func:`ct_items`.
    """
    root, about = Path(folder), find_task(task)
    if multi and not about.multi_classes:
        raise ValueError(f"multi must be false for the task {task!r}, which has no finer classes than {', '.join(about.classes)}")
    if about.modality == "CT":
        return ct_items(root, organs=organs, annotated=annotated, voxels=voxels, skip_bad=skip_bad)
    if about.series:
        return subject_items(root, about, voxels=voxels, skip_bad=skip_bad)
    masks, classes = ("masks_multi", about.multi_classes) if multi else ("masks", about.classes)
    suffixes = ("", "_segmentation", suffix_of([root / "images"], [root / masks]))
    pairs = image_mask_pairs(root, masks=masks, suffixes=tuple(dict.fromkeys(suffixes)), classes=len(classes))
    if about.diagnoses and cups and (root / "masks_cup").is_dir():
        pairs = with_cups(pairs, root / "masks_cup")
    table = find_table(root, "labels")
    if table is not None:
        pairs = with_patients(pairs, table)
        if about.diagnoses:
            pairs = with_diagnoses(pairs, table, about.diagnoses)
    return pairs
