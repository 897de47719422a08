"""What a folder holds: files by type, everything else told; of a distributed data set one entry per case, and what is missing."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_advdef.data.notes import note, some
from monai_advdef.data.pictures.contents import FETCH
from monai_advdef.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")  # what file managers leave in folders


@dataclass
class Found:
    """The ``files`` of one folder that have the ``types`` asked for, by name; ``lost`` are those that link to nothing.

    ``left`` are the names of all that is left aside, by what it is: ``"hidden"``, ``"folder"``, ``".webp"``, ...
    """

    folder: Path
    types: Sequence[str] = ()
    files: list[Path] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def told(self) -> str:
        """What is left aside, counted and named; empty where nothing is."""
        if not self.left:
            return ""
        groups = [f"{len(names)} {kind} ({some(names)}){self._within(kind)}" for kind, names in sorted(self.left.items())]
        return f"left aside in {self.folder}: {', '.join(groups)}"

    def _within(self, kind: str) -> str:
        """How many files of the types lie in the folders left aside, in words."""
        below = [self.folder / name for name in self.left[kind]] if kind == "folder" else []
        count = sum(len(files_in(path, self.types).files) for path in below if os.access(path, os.R_OK | os.X_OK))
        return f" with {count} files of these types in them" if count else ""

    def inside(self) -> str:
        """What the folder holds in a few words, for the error that nothing fits."""
        return ", ".join(f"{len(names)} {kind}" for kind, names in self.left.items()) or "nothing"

    def use(self) -> list[Path]:
        """The files, once what is left aside was told.

        Raises:
            DataError: files that link to nothing.
        """
        require_content(self.lost)
        if self.left:
            note(self.told())
        return self.files


def files_in(folder: str | os.PathLike[str], types: Sequence[str]) -> Found:
    """The entries of a folder by what they are; hidden ones (``.DS_Store``, ``._a.png``) and ``Thumbs.db`` are never the files.

    Raises:
        DataError: no such folder, a file in its place, or no right to read it.
    """
    found = Found(Path(folder), types)
    try:
        entries = sorted(found.folder.iterdir(), key=lambda path: (normal(path.stem), path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read as a folder ({error.strerror}); give the folder that holds the files") from error
    for path in entries:
        kind = path.suffix.lower()
        if left_behind(path.name):
            found.left.setdefault("hidden", []).append(path.name)
        elif path.is_dir():
            found.left.setdefault("folder", []).append(path.name)
        elif kind not in types:
            found.left.setdefault(kind or "without extension", []).append(path.name)
        elif path.is_file():
            found.files.append(path)
        elif path.is_symlink():
            found.lost.append(path)
        else:
            found.left.setdefault("no regular file", []).append(path.name)
    return found


def left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or of those that file managers leave in folders."""
    return name.startswith(".") or name.lower() in SYSTEM


def require_content(lost: Sequence[Path]) -> None:
    """Raise a :class:`DataError` that names the links to nothing, if there are any."""
    if lost:
        many = "file is a link" if len(lost) == 1 else "files are links"
        folders = {path.parent: [other.name for other in lost if other.parent == path.parent] for path in lost}
        names = "; ".join(f"{len(names)} in {folder}: {some(names, 10)}" for folder, names in folders.items())
        raise DataError(f"{len(lost)} {many} to content that is not there ({names}); {FETCH}")


def tell_twins(images: Sequence[Path]) -> None:
    """Tell of files that are there under two names (links), of which one may come to train and one to test."""
    names_of: dict[tuple[int, int], list[str]] = defaultdict(list)
    for image in images:
        about = image.stat()
        names_of[about.st_dev, about.st_ino].append(image.name)
    twins = [" and ".join(names) for names in names_of.values() if len(names) > 1]
    if twins:
        count = "One file counts" if len(twins) == 1 else f"{len(twins)} files count"
        note(f"{count} as several images, by links, of which some may come to train and some to test: {some(twins)}; keep one each")


def normal(name: str) -> str:
    """A name in the one of its Unicode forms (NFC) in which names are compared.

    Raises:
        DataError: the name of a file whose bytes are no UTF-8, as old systems wrote them: records and reports could not hold it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the file name {name!r} is not written in UTF-8; rename it (convmv renames all in a folder)") from error
    return unicodedata.normalize("NFC", name)


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
            remedy = (
                f"a link to nothing: {FETCH}" if missing[0].is_symlink() else "unpack the ground truth again, or remove the image"
            )
            self.problems.append(f"{entry.image} has no mask {missing[0]}; {remedy}")
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
    """The image files of a folder, sorted; nothing where there is no such folder. What is left aside is told, see :func:`note`.

    Raises:
        DataError: files that link to nothing.
    """
    return sorted(files_in(folder, IMAGE_SUFFIXES).use()) if folder.is_dir() else []
