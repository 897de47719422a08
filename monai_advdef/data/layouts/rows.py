"""What a layout, a pair of patterns or a list tells of a data set before any task has looked at it: a row a case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from monai_advdef.data.columns import SECTIONS
from monai_advdef.data.listing import left_behind
from monai_advdef.data.notes import some
from monai_advdef.dicom.folder import inside as listed_inside
from monai_advdef.dicom.nifti import ENDINGS


@dataclass(frozen=True)
class Row:
    """One case: its image files (one, or one a channel) and its mask files, whose it is, and the section it was put into.

    Empty where the data set does not tell it: ``section`` and ``diagnosis``. ``patient`` is the case where nothing else is known.
    """

    case: str
    patient: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    section: str = ""
    structures: tuple[str, ...] = ()


@dataclass
class Listed:
    """The cases of a data set, what its files mean, what keeps it from being used, and what one should know.

    ``Row.structures`` name the structure of each mask file; where they are empty, several mask files are united. ``channels`` name
    the image files, ``class_names`` the values stored in a mask (background included); both are empty where nothing tells them.
    """

    rows: list[Row] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def volumes(self) -> bool:
        """Whether the images are volumes (NIfTI files or folders of DICOM slices), not pictures."""
        return any(is_volume(path) or path.is_dir() for row in self.rows[:1] for path in row.images)


def is_volume(path: Path) -> bool:
    """Whether a file is called like a NIfTI volume."""
    return path.name.lower().endswith(ENDINGS)


def bare(path: Path) -> str:
    """The name of a file without its ending (``.nii.gz`` is one); of a folder its name."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.name if path.is_dir() else path.stem


def inside(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files and what operating systems leave behind; nothing where there is none."""
    return [path for path in listed_inside(folder) if not left_behind(path.name)]


def settle(listed: Listed) -> Listed:
    """The same with cases of one name told apart by section or folder, and with what would make numbers wrong among the problems.

    A problem is one picture in two sections, and cases with a section beside cases without.
    """
    listed.rows = _unique(listed)
    without = [row.case for row in listed.rows if not row.section]
    if without and len(without) < len(listed.rows):
        listed.problems.append(
            f"{len(without)} of {len(listed.rows)} cases have no section ({some(without)}); give each one of "
            f"{', '.join(SECTIONS)}, or none at all"
        )
    return listed


def _unique(listed: Listed) -> list[Row]:
    """Rows whose cases have names of their own: where some share one, section, patient or folder goes before it."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in listed.rows:
        groups[row.case.casefold()].append(row)
    shared = [rows for rows in groups.values() if len(rows) > 1]
    if not shared:
        return listed.rows
    _tell_twins(shared, listed)
    for tell in (lambda row: row.section, lambda row: row.patient, lambda row: row.images[0].parent.name):
        named = {id(row): f"{tell(row)}_{row.case}" for rows in shared for row in rows}
        if len(set(named.values())) == len(named):
            renamed = [
                replace(r, case=named[id(r)], patient=_patient(r, named[id(r)])) if id(r) in named else r for r in listed.rows
            ]
            names, apart = some([rows[0].case for rows in shared]), some(sorted(named.values()), 2)
            listed.notes.append(f"{len(named)} cases share their name with another ({names}): {apart} tells them apart")
            return renamed
    rows = shared[0]
    listed.problems.append(
        f"more than one case is called {rows[0].case!r} ({some([r.images[0] for r in rows])}); keep one, or rename"
    )
    return [r for r in listed.rows if len(groups[r.case.casefold()]) == 1]


def _patient(row: Row, name: str) -> str:
    return name if row.patient == row.case else row.patient


def _tell_twins(shared: list[list[Row]], listed: Listed) -> None:
    """A problem for every picture that lies, byte for byte, in two sections under one name."""
    for rows in shared:
        first = rows[0]
        for other in rows[1:]:
            if first.section != other.section and _same_bytes(first.images[0], other.images[0]):
                listed.problems.append(
                    f"{first.images[0]} and {other.images[0]} are the same picture in {first.section or 'no section'} and in "
                    f"{other.section or 'no section'}; keep it on one side"
                )


def _same_bytes(one: Path, other: Path) -> bool:
    if one.is_dir() or other.is_dir() or one.stat().st_size != other.stat().st_size:
        return False
    return one.read_bytes() == other.read_bytes()
