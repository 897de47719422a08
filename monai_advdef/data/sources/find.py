"""What a data set is: one of the known layouts, what patterns or a list say, or a plain folder; and how that was known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_advdef.data.ct.layouts import Kind, ct_kind, holds_ct
from monai_advdef.data.ct.organs import Organs, organ_map
from monai_advdef.data.layouts import by_pattern
from monai_advdef.data.layouts.core import DirectLayout, Layout, find_layout, is_plain, recognise, unknown_layout
from monai_advdef.data.layouts.patterns import Patterns, as_patterns, listed_by_patterns
from monai_advdef.data.layouts.rows import Listed
from monai_advdef.data.mri.layouts import ROLE_OF, holds_subjects, volume_stem
from monai_advdef.data.sources.lists import ENDINGS, listed_by_list
from monai_advdef.data.sources.meaning import class_of, name_values, parse_values
from monai_advdef.data.tables import find_table
from monai_advdef.data.tasks import TASKS, Task, find_task
from monai_advdef.data.volume_files import read_volume
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written


@dataclass(frozen=True)
class Source:
    """A data set and how it was known: ``title`` and ``reason`` in words.

    ``listed`` are the cases of one that is used where it lies, ``layout`` is set for one of pictures that are decoded first; a plain
    folder has neither. ``task`` is what it is made for, empty where nothing tells. ``home`` is where its files lie, at or below
    ``root``. ``tables``: whether ``split.csv`` and ``labels.csv`` in these belong to it, which they do not beside a list that tells
    all itself.
    """

    root: Path
    title: str
    reason: str
    task: str = ""
    listed: Listed | None = None
    layout: Layout | None = None
    home: Path | None = None
    tables: bool = True

    @property
    def split_file(self) -> Path | None:
        """The table ``split`` of the folder, where there is one and it counts."""
        return self.table("split")

    def table(self, name: str) -> Path | None:
        """The table called ``name`` where the files lie, else in the folder that was given; ``None`` where it does not count."""
        places = dict.fromkeys((self.home or self.root, self.root)) if self.tables else ()
        return next((found for place in places if (found := find_table(place, name))), None)

    @property
    def plain(self) -> bool:
        """Whether this is a folder of the house's own form."""
        return self.listed is None and self.layout is None


def find_source(
    folder: str | os.PathLike[str],
    *,
    layout: str = "",
    images: Patterns = None,
    masks: Patterns = None,
    values: Any = None,
    task: str = "",
    multi: bool = False,
) -> Source:
    """What is in a folder, or in the list that ``folder`` names.

    Args:
        layout: a name of :data:`LAYOUTS` or :data:`DIRECT`, or ``"plain"``; empty: what it looks like.
        images, masks: patterns, see :mod:`~monai_advdef.data.layouts.patterns`; a pattern of masks may begin with the structure that
            they draw, ``left lung=left/{case}.png``. Or ``images`` alone: a list file.
        values: what is stored in masks, for which a plain folder is read as if patterns told its files; see :func:`with_values`.
        task, multi: whose structures several patterns of masks draw, one each, in the order of its classes.

    Raises:
        ValueError: unknown layout or task, patterns that are none, or more or fewer than the task has structures.
        DataError: neither a known layout, nor a plain folder, nor files that fit the patterns.
    """
    root, pictures, drawings = Path(folder), as_patterns(images), as_patterns(masks)
    if len(pictures) == 1 and "{" not in pictures[0] and pictures[0].lower().endswith(ENDINGS) and not drawings:
        root, pictures = root / pictures[0], []
    if pictures or drawings:
        about = find_task(task) if task else None
        names, plain = _structures(drawings, about, multi)
        told = f"images {' and '.join(pictures)}, masks {' and '.join(drawings)}"
        return Source(root, "files told by patterns", told, task, listed_by_patterns(root, pictures, plain, names))
    if root.name.lower().endswith(ENDINGS) and not root.exists():
        raise DataError(f"there is no list {root}; give the path of a table or JSON file with image and label of every case")
    if root.is_file() and root.name.lower().endswith(ENDINGS):
        listed = listed_by_list(root)
        return Source(root.parent, f"the list {root.name}", "it names image and label of every case", task, listed, tables=False)
    if layout == "plain" or (not layout and (found := recognise(root)) is None):
        house = _plain(root, task, forced=layout == "plain")
        return replace(house, listed=_plain_listed(root)) if parse_values(values) else house
    known = find_layout(root, layout) if layout else found
    assert known is not None
    if isinstance(known, DirectLayout):
        home = known.home(root) or root
        return Source(root, known.title, known.reason(home), known.task, known.listed(root), home=home)
    named = f"{known.title} ({known.name})"
    return Source(root, named, f"it has {known.mark}", _task_of(known), layout=known, home=known.home(root))


def _plain(root: Path, task: str, *, forced: bool) -> Source:
    """A folder of the house's own form; an error for one that is nothing known."""
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(root)!r} is not a folder; give the folder that holds the data set")
    title, reason, guess = _form(root)
    about = find_task(task) if task else None
    slices = about is not None and about.modality == "CT" and (root / "images").is_dir()
    if not forced and not guess:
        raise unknown_layout(root, task=about)
    if not forced and about and not slices and _of_another(about, find_task(guess)):
        takes = f"volumes of {', '.join(about.series)}" if about.series else "CT volumes" if about.modality == "CT" else "pictures"
        raise DataError(
            f"{root} looks like {title} of the task {guess}, since {reason}; the task {about.name} takes {takes}: choose --task "
            f"{guess}, another folder, or say by --images and --masks which files are meant"
        )
    return Source(root, title or "images and masks", reason or "it was said so", task or guess or "skin")


def _of_another(one: Task, other: Task) -> bool:
    """Whether images of the one task are none of the other."""
    return (one.series, one.spatial_dims) != (other.series, other.spatial_dims)


def _form(root: Path) -> tuple[str, str, str]:
    """What a folder of the house's own form is called, how that is known, and the task it seems to be for; empty for others."""
    if (root / "masks_cup").is_dir():
        return "images and masks", "it holds masks_cup/", "fundus"
    if (root / "masks_multi").is_dir():
        return "images and masks", "it holds masks_multi/", "lung"
    if holds_ct(root):
        return "CT volumes", "it holds images/ and labels/ with volumes, or dicom/ with series", "abdomen"
    if _names_series(root):
        return "subjects", "it holds volumes called like MRI series", "glioma"
    if by_pattern.pictures(root / "images"):
        return "images and masks", "it holds images/ with pictures", "skin"
    return "", "", ""


def _plain_listed(root: Path) -> Listed:
    """The cases of a plain folder whose stored values are told."""
    if is_plain(root):
        return by_pattern.read_folders(root, "images", "masks")
    if holds_ct(root) and (root / "labels").is_dir():
        return listed_by_patterns(root, ["images/{case}.*"], ["labels/{case}.*"])
    raise ValueError(f"values cannot be told for {root}; say by images and masks which files are meant")


def _names_series(root: Path) -> bool:
    """Whether volumes below a folder are called like series of MRI (``t1.nii.gz``, ``x-t2f.nii.gz``), or DICOM folders are."""
    volumes = [path for pattern in ("*/*.nii*", "*/*/*.nii*") for path in root.glob(pattern) if volume_stem(path)]
    if volumes:
        return any(ROLE_OF.get(re.split(r"[_-]", volume_stem(path).lower())[-1], "seg") != "seg" for path in volumes)
    return holds_subjects(root)


def _structures(masks: Sequence[str], task: Task | None, multi: bool) -> tuple[tuple[str, ...], list[str]]:
    """The structure that each pattern of masks draws (none where they are united), and the patterns without their names."""
    parted = [re.match(r"([^/{}=]+)=(.+)", pattern) for pattern in masks]
    if any(parted):
        if not all(parted):
            raise ValueError(f"masks {list(masks)}: name the structure of each pattern (left lung=left/{{case}}.png), or of none")
        return tuple(match[1].strip() for match in parted if match), [match[2] for match in parted if match]
    classes = () if task is None else task.multi_classes[1:] if multi else task.classes[1:]
    if len(masks) < 2 or len(classes) < 2:
        return (), list(masks)
    if len(masks) != len(classes):
        raise ValueError(
            f"masks has {len(masks)} patterns, the task {task.name if task else ''} the structures {', '.join(classes)}; give one a "
            "structure in this order, or write before each what it draws (liver=labels/liver/{case}.nii.gz)"
        )
    return classes, list(masks)


def _task_of(layout: Layout) -> str:
    return "skin" if layout.name.startswith("is") else "lung" if layout.name == "jsrt" else "fundus"


def guess_task(source: Source) -> tuple[str, str]:
    """The task that a data set seems to be made for, empty where nothing tells, and why."""
    if source.task:
        return source.task, source.reason
    listed = source.listed
    if listed is None or not listed.rows:
        return "", ""
    structures = [name for names in ([*listed.class_names.values()], listed.rows[0].structures) for name in names]
    if not listed.volumes:
        fit = [t.name for t in TASKS.values() if t.spatial_dims == 2 and any(class_of(n, _classes(t)) > 0 for n in structures)]
        return (fit[0], f"it names {', '.join(structures)}") if fit else ("", "")
    return _volume_task(listed, structures)


def _volume_task(listed: Listed, structures: Sequence[str]) -> tuple[str, str]:
    roles = {ROLE_OF.get(re.sub(r"\W", "", name.lower())) for name in listed.channels}
    if {"t1", "t1ce", "t2", "flair"} <= roles or len(listed.rows[0].images) == 4:
        return "glioma", f"it has the channels {', '.join(listed.channels)}" if listed.channels else "a case has four volumes"
    organs = organ_map("abdomen_all")
    if listed.channels == ("CT",):
        organ = next((name for name in structures if organs.class_named(name)), "")
        return ("abdomen", f"it is CT and names {organ}") if organ else ("", "")
    image = listed.rows[0].images[0]
    if not listed.channels and len(listed.rows[0].images) == 1 and image.is_file() and float(read_volume(image)[0].min()) < 0:
        return "abdomen", f"{image.name} holds values below 0, as CT does"
    return "", ""


def _classes(task: Task) -> tuple[str, ...]:
    return task.multi_classes or task.classes


def with_values(source: Source, values: Any, task: Task, *, multi: bool = False, organs: Organs | None = None) -> Source:
    """The same with the names of the task's classes for the stored values that ``values`` tells (value to class number).

    Raises:
        ValueError: what :func:`parse_values` refuses, a number that is no class, or a layout whose values are known.
    """
    told = parse_values(values)
    if told and source.listed is None:
        raise ValueError(f"values cannot be told for {source.root}: what {source.title} stores is known; leave them away")
    if told and source.listed:
        classes = ("background", *organs.names) if organs else task.multi_classes if multi else (*task.classes, *task.parts)
        source.listed.class_names = name_values(told, classes)
    return source


@as_written
def scan_kind(folder: str | os.PathLike[str], images: Patterns = None, masks: Patterns = None) -> Kind:
    """Whether a CT data set holds ``"slices"`` (pictures) or ``"volumes"``, whatever its layout; the latter for phantoms."""
    told = as_patterns(images)
    if str(folder) and (told or (Path(folder).exists() and recognise(folder) is not None) or Path(folder).is_file()):
        listed = find_source(folder, images=images, masks=masks).listed
        return "slices" if listed is not None and not listed.volumes else "volumes"
    return ct_kind(folder)
