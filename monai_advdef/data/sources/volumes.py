"""The rows of a data set of volumes as items of the CT and of the MRI task, their labels turned into the values that loaders know.

Labels that hold these values already stay where they lie; others (a file a structure, values that mean something else) are written
once into a folder of the user's, under a name made of their content.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_advdef.data.ct.checks import check_scan
from monai_advdef.data.ct.labels import read_class_map
from monai_advdef.data.ct.layouts import Scan
from monai_advdef.data.ct.organs import Organs
from monai_advdef.data.ct.subjects import Annotated
from monai_advdef.data.layouts.rows import Listed, Row
from monai_advdef.data.mri.checks import check_headers, check_voxels
from monai_advdef.data.mri.layouts import ROLE_OF, Subject, tumour_class
from monai_advdef.data.sources.meaning import unknown_structures
from monai_advdef.data.tasks import Task
from monai_advdef.data.volume_files import read_header, read_on_grid, whole_values
from monai_advdef.errors import DataError

Items = tuple[list[dict[str, Any]], list[str], list[str]]
PARTS = re.compile(r"tumou?r|cancer|lesion|cyst|mass|metasta", re.IGNORECASE)  # of an organ, and belong to it
OVERLAP = 0.1  # of a structure, up to which another may lie over it: masks are drawn apart, and meet


def scan_items(listed: Listed, organs: Organs, store: Path, *, annotated: Annotated = "", voxels: bool = True) -> Items:
    """The items of CT volumes as :func:`ct_items` describes them, the problems of the others, and notes.

    An organ counts for a volume if the data set names it (in ``dataset.json``, or by a mask file), for then somebody looked for it.
    """
    number_of, notes = _organ_numbers(listed, organs)
    if not number_of and not any(row.structures for row in listed.rows):
        held = ", ".join(f"{'/'.join(map(str, values))} {organ}" for organ, values in organs.values.items())
        notes.append(f"what labels store is taken as the organ map {organs.source} has it ({held}); --values says it otherwise")

    def item(row: Row) -> dict[str, Any]:
        if len(row.images) != 1:
            raise DataError(f"the case {row.case!r} has {len(row.images)} images; a CT is one volume: give one pattern or channel")
        scan = Scan(row.case, row.images[0], None, row.patient)
        notes.extend(check_scan(scan) if voxels else [])
        numbers = {name: organs.class_named(name) for name in row.structures}
        if row.structures and not any(numbers.values()):
            raise DataError(
                f"the case {row.case!r} has no mask of {', '.join(organs.names)}; it has {', '.join(row.structures[:8])}"
            )
        value_of = [0, *(values[0] for values in organs.values.values())]
        label = row.masks[0]
        if row.structures or number_of or len(row.masks) > 1:
            masks = [(path, numbers[name]) for path, name in zip(row.masks, row.structures) if numbers[name]]
            label, odd = _joined(masks or [(path, 0) for path in row.masks], number_of, value_of, row, store)
            notes.extend(odd)
        found = read_class_map(label, scan.image, organs).classes
        told = {*numbers.values(), *number_of.values()}
        outlined = [number == 0 or number in found or number in told or annotated == "all" for number in range(organs.classes)]
        if not any(outlined[1:]):
            raise DataError(
                f"{label} shows none of {', '.join(organs.names)}; choose another organ map, or say by --values what it shows"
            )
        about = {"image": str(scan.image), "label": str(label), "case": row.case, "patient": row.patient}
        return {**about, "annotated": outlined, "known_values": sorted(organs.known), "grade": ""}

    items, problems = _each(listed.rows, item)
    return items, problems, notes


def _organ_numbers(listed: Listed, organs: Organs) -> tuple[dict[int, int], list[str]]:
    """The class of every stored value by its name; a tumour belongs to the organ, where the data set has one."""
    number_of = {value: organs.class_named(name) for value, name in listed.class_names.items()}
    named = {number for number in number_of.values() if number}
    if listed.class_names and not named:
        others = [name for value, name in listed.class_names.items() if value]
        raise unknown_structures(others, ["background", *organs.names], "dataset.json")
    notes = []
    parts = [value for value, name in listed.class_names.items() if not number_of[value] and PARTS.search(name)]
    if parts and len(named) > 1:
        told = f"{parts[0]} ({listed.class_names[parts[0]]})"
        raise DataError(f"the stored value {told} may belong to any of {len(named)} organs; say to which by --values")
    for value in parts:
        number_of[value] = next(iter(named))
        notes.append(f"the stored value {value} ({listed.class_names[value]}) counts as {organs.names[number_of[value] - 1]}")
    rest = [f"{value} ({name})" for value, name in listed.class_names.items() if value and not number_of[value]]
    return number_of, [*notes, *([f"the stored values {', '.join(rest)} are none of the organs: background"] if rest else [])]


def series_items(listed: Listed, task: Task, store: Path, *, voxels: bool = True) -> Items:
    """The items of MRI subjects as :func:`subject_items` describes them, the problems of the others, and notes."""
    order = _series_order(listed, task)
    number_of, notes = _tumour_numbers(listed, task)
    fitting = sorted(number_of.values()) == list(range(len(task.classes)))
    value_of = {number: value for value, number in number_of.items()}
    values = tuple(value_of[number] for number in range(len(task.classes))) if fitting else task.label_values

    def item(row: Row) -> dict[str, Any]:
        single = len(row.images) == 1
        images = [row.images[0]] * len(task.series) if single else [row.images[number] for number in order]
        label, known = row.masks[0], values
        if row.structures:
            masks = [(path, task.classes.index(name)) for path, name in zip(row.masks, row.structures) if name in task.classes]
            if len(masks) < len(row.masks):
                raise DataError(
                    f"the case {row.case!r} has masks of {', '.join(row.structures)}; known: {', '.join(task.classes[1:])}"
                )
            label, odd = _joined(masks, {}, task.label_values, row, store)
            notes.extend(odd)
            known = task.label_values
        elif len(row.masks) > 1 or (number_of and not fitting):
            label, _ = _joined([(path, 0) for path in row.masks], number_of, task.label_values, row, store)
        files = dict(zip(task.series, images)) | {"seg": label}
        subject = Subject(row.case, row.images[0].parent, files, known, tuple(order) if single else (), row.patient)
        notes.extend(check_headers(subject))
        notes.extend(check_voxels(subject, task.series) if voxels else [])
        return subject.item(task.series)

    items, problems = _each(listed.rows, item)
    return items, problems, notes


def _series_order(listed: Listed, task: Task) -> list[int]:
    """Which channel of the data set each series is: by name, or as they were told where there are no names."""
    role_of = [ROLE_OF.get(re.sub(r"\W", "", name.lower()), "") for name in listed.channels]
    absent = [name for name in task.series if role_of and name not in role_of]
    if absent:
        raise DataError(
            f"no {absent[0]} among the channels {', '.join(listed.channels)}; the task {task.name} takes {', '.join(task.series)}"
        )
    count = len(listed.rows[0].images)
    if not role_of and count != len(task.series):
        raise DataError(
            f"{count} images a case; the task {task.name} takes {', '.join(task.series)}: give --images a pattern for each, in this "
            "order"
        )
    return [role_of.index(name) for name in task.series] if role_of else list(range(count))


def _tumour_numbers(listed: Listed, task: Task) -> tuple[dict[int, int], list[str]]:
    """The class of every stored value by its name, and notes; other structures are background."""
    number_of = {value: tumour_class(name, task) for value, name in listed.class_names.items()}
    absent = [name for number, name in enumerate(task.classes) if number and listed.class_names and number not in number_of.values()]
    if absent:
        raise unknown_structures(list(listed.class_names.values()), ["background", *absent], "the data set")
    others = [f"{value} ({listed.class_names[value]})" for value, number in number_of.items() if number < 0]
    notes = [f"the stored values {', '.join(others)} are none of the classes: background"] if others else []
    return {value: max(number, 0) for value, number in number_of.items()}, notes


def _joined(
    masks: Sequence[tuple[Path, int]], number_of: Mapping[int, int], value_of: Sequence[int], row: Row, store: Path
) -> tuple[Path, list[str]]:
    """A label file with the loaders' values, of one file re-valued (class 0) or of a file a structure; and what was odd, in words.

    Where structures overlap a little, the first counts.

    Raises:
        DataError: a mask that hides more than a tenth of another, such as the whole tumour its core, since a voxel has one class.
    """
    name_of = dict(zip(row.masks, row.structures))
    joined: np.ndarray | None = None
    whole: dict[int, tuple[Path, int]] = {}
    notes, first = [], read_header(masks[0][0])
    for path, number in reversed(masks):
        stored = whole_values(read_on_grid(path, masks[0][0], first)[0])
        joined = np.zeros(stored.shape, np.uint8) if joined is None else joined
        if number:
            drawn = _drawn(path, stored)
            hidden = joined[drawn]
            for value in {*hidden.tolist()} - {0, value_of[number]}:
                lost, (other, size) = int((hidden == value).sum()), whole[value]
                told = f"the case {row.case!r}: {name_of[path]} and {name_of[other]} overlap in {lost} voxels"
                if lost > OVERLAP * size:
                    raise DataError(
                        f"{told}, {100 * lost / size:.0f} % of the latter ({path}, {other}), and a voxel has one class; give masks "
                        "that do not overlap, or one file of classes with --values"
                    )
                notes.append(f"{told}, which count as {name_of[path]}")
            joined[drawn] = value_of[number]
            whole[value_of[number]] = (path, int((joined == value_of[number]).sum()))
            continue
        odd = [f"{value:g}" for value in np.unique(stored) if value not in number_of and value != 0]
        if odd:
            known = ", ".join(map(str, sorted(number_of)))
            raise DataError(
                f"{path} holds the label value {', '.join(odd[:4])}, of which nothing is told (known: {known}); say it by --values"
            )
        for value, meant in number_of.items():
            joined[stored == value] = value_of[meant]
    assert joined is not None
    digest = hashlib.sha256(joined.tobytes() + first.affine.tobytes() + repr(joined.shape).encode()).hexdigest()[:16]
    path = store / f"{row.case}-{digest}.nii.gz".replace("/", "_")
    if not path.is_file():
        try:
            store.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{os.getpid()}-{path.name}")
            save_volume(joined, first.affine, part)
            part.replace(path)
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error}); give a bundle_root where labels may be written") from error
    return path, notes


def _drawn(path: Path, stored: np.ndarray) -> np.ndarray:
    """Where the mask of one structure is set; it holds 0 and at most one other value."""
    values = np.unique(stored)
    if not np.isfinite(values).all() or len(values[values != 0]) > 1:
        held = ", ".join(f"{value:.6g}" for value in values[:5])
        raise DataError(
            f"{path} holds the values {held}{', ...' if len(values) > 5 else ''}; the mask of one structure holds 0 and one other "
            "(resample masks by nearest neighbour)"
        )
    return stored != 0


def save_volume(voxels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write voxels (X, Y, Z) as NIfTI; ``affine`` (4, 4) in mm."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _each(rows: Sequence[Row], item: Callable[[Row], dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    def attempt(row: Row) -> dict[str, Any] | DataError:
        try:
            return item(row)
        except DataError as error:
            return error
        except OSError as error:  # a link that leads nowhere, a file that may not be read
            told = f"{error.filename} cannot be opened ({error.strerror})"
            return DataError(f"the case {row.case!r}: {told}; fetch it, or leave the case out")

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(attempt, rows))
    return [r for r in results if not isinstance(r, DataError)], [str(r) for r in results if isinstance(r, DataError)]
