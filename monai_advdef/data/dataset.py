"""The data set of a task: the user's folder, or phantom images made where none is given."""

from __future__ import annotations

import os
from pathlib import Path

from monai_advdef.data.pairs import image_mask_pairs, split_pairs
from monai_advdef.data.phantoms import write_phantoms

SECTIONS = ("train", "validation", "test")


def dataset(
    task: str, dataset_dir: str | os.PathLike[str] = "", phantom_dir: str | os.PathLike[str] = "phantom", *, phantoms: int = 72
) -> dict[str, list[dict[str, str]]]:
    """Image and mask files by section.

    Args:
        task: name of the task, for the phantoms.
        dataset_dir: a folder with ``images/`` and ``masks/``, and ``split.csv`` if the split is fixed by hand; empty: phantoms.
        phantom_dir: where the phantom images are, or are made.
        phantoms: how many to make.

    Returns:
        ``{"train": [...], "validation": [...], "test": [...]}`` of dictionaries with ``image``, ``label``, ``case`` and ``patient``.

    Raises:
        DataError: see :func:`image_mask_pairs` and :func:`split_pairs`.
    """
    folder = Path(dataset_dir or phantom_dir)
    if not dataset_dir:
        write_phantoms(task, folder, cases=phantoms)
    pairs = image_mask_pairs(folder)
    return {section: split_pairs(pairs, section) for section in SECTIONS}
