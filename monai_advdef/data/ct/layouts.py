"""Where the CT scans of a data set lie: volumes as NIfTI files or DICOM series, or labelled slices as PNG.

Volumes: ``images/<name>.nii.gz`` with ``labels/<name>.nii.gz``; ``dicom/<name>/`` (a series) with ``dicom/<name>_label.nii.gz``,
``dicom/<name>_label.dcm`` or ``dicom/<name>_seg.dcm`` (DICOM SEG), or a SEG among the slices. ``labels.json`` (value to name) tells
what the label values mean, ``labels.csv`` may tell ``image,patient``. Slices: ``images/<name>.png``, grey levels in a window that
their source chose, ``masks/<name>.png``, and ``labels.csv`` with ``image,patient,slice``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_advdef.data.mri.layouts import volume_stem
from monai_advdef.data.pairs import IMAGE_TYPES
from monai_advdef.dicom.series_slices import is_series
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

Kind = Literal["volumes", "slices"]
LABEL_ENDINGS = ("_label.nii.gz", "_label.nii", "_label.dcm", "_seg.dcm")


@dataclass(frozen=True)
class Scan:
    """A volume: its name, the file or series folder with the image, the label file (None where there is none), and its patient."""

    name: str
    image: Path
    label: Path | None
    patient: str


@as_written
def ct_kind(folder: str | os.PathLike[str]) -> Kind:
    """Whether a folder holds ``"slices"`` (``images/`` with pictures) or ``"volumes"``; the latter for the phantoms of ``""``."""
    images = Path(folder) / "images"
    if not str(folder) or not images.is_dir():
        return "volumes"
    return "slices" if any(path.suffix.lower() in IMAGE_TYPES for path in images.iterdir()) else "volumes"


def holds_ct(root: Path) -> bool:
    """Whether a folder looks like one of labelled CT volumes: ``images/`` and ``labels/`` with NIfTI files, or ``dicom/``."""
    pairs = all(any(root.glob(f"{part}/*.nii*")) for part in ("images", "labels"))
    return pairs or any(path.is_dir() and is_series(path) for path in root.glob("dicom/*/"))


def find_scans(root: Path, *, labelled: bool = True) -> list[Scan]:
    """All volumes of a folder by name, images and DICOM series together; none of the volumes is opened.

    Where both hold a volume of one name, they are one patient, and the case of the series gets the ending ``_dicom``. With
    ``labelled`` false the files and series may also lie in the folder itself.

    Raises:
        DataError: no such folder, no volume in it, two files of one name, or (with ``labelled``) an image without a label.
    """
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(root)!r} is not a folder; give the folder that holds images/ and labels/, or dicom/")
    files = [path for path in _inside(root / "images") if volume_stem(path)]
    series = [path for path in _inside(root / "dicom") if path.is_dir() and is_series(path)]
    if not labelled and not files and not series:
        files = [path for path in _inside(root) if volume_stem(path)]
        series = [path for path in _inside(root) if path.is_dir() and is_series(path)]
    if not files and not series:
        there = ", ".join(path.name for path in _inside(root)[:5]) or "nothing"
        raise DataError(
            f"no CT volume in {root} (it holds: {there}); put images/<name>.nii.gz and labels/<name>.nii.gz there, "
            "or dicom/<name>/ (a series) and dicom/<name>_label.nii.gz"
        )
    twice = [name for name, count in Counter(volume_stem(path) for path in files).items() if count > 1]
    if twice:
        raise DataError(f"{root / 'images'} holds more than one volume named {twice[0]!r}; keep one file per case")
    names = {volume_stem(path) for path in files}
    scans = [Scan(volume_stem(path), path, _label_of_file(path) if labelled else None, volume_stem(path)) for path in files]
    for path in series:
        case = f"{path.name}_dicom" if path.name in names else path.name
        scans.append(Scan(case, path, _label_of_series(path) if labelled else None, path.name))
    return scans


def label_names_file(root: Path) -> Path | None:
    """The ``labels.json`` of a data set, or None."""
    return next((path for path in (root / "labels.json", root / "labels" / "labels.json") if path.is_file()), None)


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _label_of_file(image: Path) -> Path | None:
    folder, stem = image.parent.parent / "labels", volume_stem(image)
    return next((path for path in _inside(folder) if volume_stem(path) in (stem, f"{stem}_label", f"{stem}_seg")), None)


def _label_of_series(series: Path) -> Path | None:
    beside = [series.with_name(series.name + ending) for ending in LABEL_ENDINGS]
    inside = [path for path in _inside(series) if path.suffix == ".dcm" and path.stem.lower().endswith("seg")]
    return next((path for path in (*beside, *inside) if path.is_file()), None)
