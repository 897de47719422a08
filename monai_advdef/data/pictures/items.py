"""The pictures of a folder to predict on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from monai_advdef.data.layouts.patterns import Patterns, as_patterns, images_by_pattern
from monai_advdef.data.listing import IMAGE_SUFFIXES, files_in
from monai_advdef.data.notes import note
from monai_advdef.data.pairs import Pair, single
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

LISTS = (".csv", ".tsv", ".txt", ".xlsx", ".json")
TWINS = "rename one: predictions are called as their images, and files of the same name would be written over each other"


@as_written
def picture_items(dataset_dir: str | os.PathLike[str], images: Patterns = None) -> list[Pair]:
    """The image files to predict on: of a folder, of ``images/`` in it where it holds none itself, those of a pattern, or one file.

    Other sub-folders are not looked into. What is left aside, and that ``images/`` is taken, is told, see :func:`note`.

    Args:
        images: a pattern of file names below ``dataset_dir``, ``scans/{case}.png``, see :mod:`~monai_advdef.data.layouts.patterns`.

    Returns:
        Dictionaries ``{"image": path, "case": base name}``, sorted by case.

    Raises:
        ValueError: a pattern that is none.
        DataError: no such folder or file, no image in it, links to nothing, or two images of one name, whose predictions would be
            written into one file.
    """
    path = Path(dataset_dir or "")
    patterns = as_patterns(images)
    if patterns:
        if len(patterns) != 1:
            raise ValueError(f"images must be one pattern, a picture a case, got {patterns}")
        return _items(images_by_pattern(path, patterns[0]))
    if path.is_file() and path.suffix.lower() in LISTS:
        raise DataError(f"{path} is a table or list; to predict give a folder with images, a pattern by images, or an image file")
    if path.is_file():
        return [{"image": str(path), "case": path.stem}]
    if not path.is_dir():
        raise DataError(f"dataset_dir {str(dataset_dir)!r} is not there; give a folder with images, or an image file")
    found, within = files_in(path, IMAGE_SUFFIXES), path / "images"
    if not found.files and not found.lost and within.is_dir():
        note(f"{path} holds no image itself: those of {within} are taken")
        found = files_in(within, IMAGE_SUFFIXES)
    if not found.files and not found.lost:
        folders = [name for name in found.left.get("folder", []) if files_in(found.folder / name, IMAGE_SUFFIXES).files]
        raise DataError(
            f"no image in {found.folder} (it holds: {found.inside()}); put {', '.join(IMAGE_SUFFIXES)} files there, or give "
            + (f"the folder with images below it: {', '.join(folders)}" if folders else "the folder that holds them")
        )
    return _items(found.use())


def _items(files: Sequence[Path]) -> list[Pair]:
    return [{"image": str(file), "case": case} for case, file in sorted(single(files, TWINS).items())]
