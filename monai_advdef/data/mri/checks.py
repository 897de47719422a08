"""Whether the volumes of a subject can be used: their headers, which is cheap, and every voxel, which is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from monai_advdef.data.mri.layouts import Subject
from monai_advdef.data.volume_files import odd_values, read_header, read_volume, require_volume, whole_values
from monai_advdef.dicom.series_subject import Grid, check_same_grid, turned_onto
from monai_advdef.errors import DataError

BRATS, BRATS_2023 = (0, 1, 2, 4), (0, 1, 2, 3)
COVERED = 0.9  # of the head, below which a series is called partial; the least of a whole BraTS series seen is 0.97


@contextmanager
def naming(subject: Subject) -> Iterator[None]:
    """Put the subject before whatever a :class:`DataError` says."""
    try:
        yield
    except DataError as error:
        raise DataError(f"subject {subject.name}: {error}") from error


def check_headers(subject: Subject) -> list[str]:
    """Open the header of every file: readable, one volume (or all series in one file), an affine that can be inverted, one grid.

    Axes may run in another order or direction from file to file. Returns what is odd but usable, in words.

    Raises:
        DataError: naming subject and file.
    """
    with naming(subject):
        images = {role: read_header(path) for role, path in subject.files.items()}
        for role, image in images.items():
            require_volume(subject.files[role], image.shape, 1 if role == "seg" else max(1, len(subject.order)))
        grids = {str(subject.files[role]): Grid(image.shape[:3], image.affine) for role, image in images.items()}
        first = next(iter(grids.values()))
        check_same_grid({name: grid.turned(first) for name, grid in grids.items()})
    return [f"subject {subject.name}: {note}" for image in images.values() for note in image.notes]


def check_voxels(subject: Subject, series: tuple[str, ...]) -> list[str]:
    """Read every voxel of a subject, one series in memory at a time; what is odd but usable, in words.

    A series is odd where it covers less than 90 % of the head: of the voxels that at least two of the other series fill.

    Raises:
        DataError: a file that ends early or is corrupt, NaN or infinite voxels, a series of zeros or of one value, or a label that
            is none; naming subject and file.
    """
    filled: dict[str, np.ndarray] = {}
    with naming(subject):
        whole, first = read_volume(subject.files[series[0]])
        for number, name in enumerate(series):
            path = subject.files[name]
            voxels, header = (whole, first) if subject.order or not number else read_volume(path)
            voxels = voxels[..., subject.order[number]] if subject.order else voxels
            voxels, _ = turned_onto(Grid(first.shape[:3], first.affine), voxels, header.affine)
            bad = 0 if voxels.dtype.kind in "iu" else int((~np.isfinite(voxels)).sum())
            if bad:
                raise DataError(f"{path} ({name}) holds {bad} NaN or infinite voxels; repair it or leave it out")
            filled[name] = voxels != 0
            inside = voxels[filled[name]]
            if inside.size == 0 or inside.min() == inside.max():
                what = "nothing but zeros" if inside.size == 0 else f"the one value {inside[0]:g} in the head"
                raise DataError(f"{path} ({name}) holds {what}; fetch the series again or leave the subject out")
        notes = _check_labels(subject) if "seg" in subject.files else []
    return [f"subject {subject.name}: {note}" for note in [*notes, *_partial(subject, filled)]]


def _check_labels(subject: Subject) -> list[str]:
    """Make sure that the label file holds known values; a note where they had to be rounded."""
    path, known = subject.files["seg"], subject.label_values
    stored, _ = read_volume(path)
    labels = whole_values(stored)
    if odd := odd_values(labels, known):
        remedy = _label_remedy(set(np.unique(labels).tolist()), known)
        raise DataError(f"{path} holds the label {odd}; known are {', '.join(map(str, known))}: {remedy}")
    moved = odd_values(stored, known)
    return [f"{path} holds the label {moved}, taken as the nearest whole number"] if moved else []


def _label_remedy(found: set[float], known: tuple[int, ...]) -> str:
    """What helps: most often resampling by nearest neighbour, but the two numberings of BraTS differ in one value alone."""
    if known == BRATS and found <= {*BRATS_2023} and 3 in found:
        return (
            "3 is the enhancing tumour in the numbering of BraTS 2023 (0, 1, 2, 3), where files are called t1n, t1c, t2w, t2f; "
            "write 4 in place of 3, or give the files those names"
        )
    if known == BRATS_2023 and found <= {*BRATS, *BRATS_2023} and {3, 4} <= found:
        return (
            "4 is the resection cavity of BraTS 2024 (after treatment), which is none of the classes; write 0 in place of 4, or "
            "tell the files by --images and --masks, with --values 0=0,1=1,2=2,3=3,4=0"
        )
    if known == BRATS_2023 and found <= {*BRATS} and 4 in found:
        return (
            "4 is the enhancing tumour in the numbering of BraTS 2017 to 2021 (0, 1, 2, 4), where files are called t1, t1ce, t2, "
            "flair; write 3 in place of 4, or give the files those names"
        )
    return "correct the label file (resample labels by nearest neighbour)"


def _partial(subject: Subject, filled: dict[str, np.ndarray]) -> list[str]:
    counts = np.sum([mask.astype(np.uint8) for mask in filled.values()], axis=0, dtype=np.uint8)
    said = []
    for name, mask in filled.items():
        head = counts - mask >= min(2, len(filled) - 1)
        share = float(mask[head].mean()) if head.any() else 1.0
        if share < COVERED:
            said.append(
                f"{subject.files[name]} ({name}) covers {100 * share:.0f} % of the head that the other series show; look at it, and "
                "leave the subject out if the tumour is cut"
            )
    return said
