"""What a distributed data set holds: one entry per case, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Entry:
    """One case as distributed; ``cup``, ``diagnosis`` and ``section`` are empty where the data set does not tell them.

    ``also`` is a second file of the structure in ``mask``, united with it. ``multi`` are the files of the single structures that the
    classes 1, 2, ... of ``masks_multi`` are; where they overlap the first counts. ``half`` says that image and masks show two views
    side by side, of which the one with the masks is the case.
    """

    case: str
    patient: str
    image: Path
    mask: Path
    cup: Path | None = None
    diagnosis: str = ""
    section: str = ""
    half: bool = False
    also: Path | None = None
    multi: tuple[Path, ...] = ()


@dataclass
class Listing:
    """The entries of a data set, what keeps it from being used (``problems``), and what one should know (``notes``)."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Keep an entry whose files are all there; else say which is missing."""
        masks = (entry.mask, entry.also, entry.cup, *entry.multi)
        missing = [path for path in masks if path is not None and not path.is_file()]
        if missing:
            self.problems.append(f"{entry.image} has no mask {missing[0]}; unpack the ground truth again, or remove the image")
        else:
            self.entries.append(entry)


def first_below(folder: Path, fits: Callable[[Path], bool], *, depth: int = 2) -> Path | None:
    """The folder itself, or the first one below it (archives often unpack into a folder of their own), that ``fits``."""
    if not folder.is_dir():
        return None
    if fits(folder):
        return folder
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))) if depth else []
    return next((found for path in below if (found := first_below(path, fits, depth=depth - 1)) is not None), None)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
