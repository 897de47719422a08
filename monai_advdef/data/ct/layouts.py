"""Where the CT scans of a data set lie: volumes as NIfTI files or DICOM series, or labelled slices as PNG.

Volumes: ``images/<name>.nii.gz`` with ``labels/<name>.nii.gz``; ``dicom/<name>/`` (a series) with ``dicom/<name>_label.nii.gz``,
``dicom/<name>_label.dcm`` or ``dicom/<name>_seg.dcm`` (DICOM SEG), or a SEG or RTSTRUCT within the folder. Series may lie in study
and series folders below, and ``dicom/`` may be the data set's folder itself. ``labels.json`` (value to name) tells
what the label values mean, ``labels.csv`` may tell ``image,patient``. Slices: ``images/<name>.png``, grey levels in a window that
their source chose, ``masks/<name>.png``, and ``labels.csv`` with ``image,patient,slice``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_advdef.data.pairs import IMAGE_TYPES
from monai_advdef.data.volume_files import volume_stem
from monai_advdef.dicom.folder import inside, is_series, modality_of, series_folders
from monai_advdef.dicom.label_files import label_reader
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

Kind = Literal["volumes", "slices"]
LABEL_ENDINGS = ("_label.nii.gz", "_label.nii", "_label.dcm", "_seg.dcm")


@dataclass(frozen=True)
class Scan:
    """A volume: its name, the file or series folder with the image, the label file (None where there is none), and its patient.

    ``problem`` says why it cannot be used, where its folder alone tells.
    """

    name: str
    image: Path
    label: Path | None
    patient: str
    problem: str = ""


@as_written
def ct_kind(folder: str | os.PathLike[str]) -> Kind:
    """Whether a folder holds ``"slices"`` (``images/`` with pictures) or ``"volumes"``; the latter for the phantoms of ``""``."""
    images = Path(folder) / "images"
    if not str(folder) or not images.is_dir():
        return "volumes"
    return "slices" if any(path.suffix.lower() in IMAGE_TYPES for path in inside(images)) else "volumes"


def holds_ct(root: Path) -> bool:
    """Whether a folder looks like one of labelled CT volumes: ``images/`` and ``labels/`` with NIfTI, ``dicom/``, or CT series."""
    pairs = all(any(volume_stem(path) for path in inside(root / part)) for part in ("images", "labels"))
    if pairs or any(series_folders(path) for path in inside(root / "dicom")):
        return True
    return any(modality_of(series) == "CT" for path in inside(root) for series in series_folders(path)[:1])


def find_scans(root: Path, *, labelled: bool = True) -> list[Scan]:
    """All volumes of a folder by name, images and DICOM series together; none of the volumes is opened.

    A series may lie deeper than ``dicom/<name>/`` (study and series folders), as long as it is the only one there. Where images and
    series have a name in common, they are one patient, and the case of the series gets the ending ``_dicom``. The series,
    and with ``labelled`` false the files, may also lie in the folder itself.

    Raises:
        DataError: no such folder, no volume in it, two files of one name, or (with ``labelled``) an image without a label.
    """
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(root)!r} is not a folder; give the folder that holds images/ and labels/, or dicom/")
    files, series = _volumes(root / "images"), _series(root / "dicom")
    if not files and not series:
        files, series = [] if labelled else _volumes(root), _series(root)
        if is_series(root):
            raise DataError(f"{root} is itself a series; give the folder it lies in ({root.parent}), whose series and volumes count")
        for path in series:
            if path.name in (stems := {volume_stem(file): file.name for file in files}):
                raise DataError(
                    f"{root} holds {stems[path.name]} and the series {path.name}/, whose predictions would be one file; rename one"
                )
    if not files and not series:
        there = ", ".join(path.name for path in inside(root)[:5]) or "nothing"
        raise DataError(
            f"no CT volume in {root} (it holds: {there}); put images/<name>.nii.gz and labels/<name>.nii.gz there, "
            "or dicom/<name>/ (a series) and dicom/<name>_label.nii.gz"
        )
    twice = [name for name, count in Counter(volume_stem(path) for path in files).items() if count > 1]
    if twice:
        raise DataError(f"{files[0].parent} holds more than one volume named {twice[0]!r}; keep one file per case")
    names = {volume_stem(path) for path in files}
    scans = [Scan(volume_stem(path), path, _label_of_file(path) if labelled else None, volume_stem(path)) for path in files]
    scans += [_scan_of_series(top, found, names, labelled) for top, found in series.items()]
    return scans


def left_out(root: Path, scans: Sequence[Scan]) -> list[str]:
    """What stands beside the volumes of a folder and is not used, in words: other files, labels without image, empty folders."""
    used = {path for scan in scans for path in (scan.image, scan.label) if path}
    used |= {part for scan in scans for part in scan.image.parents}
    said = []
    for folder, what in (
        (root / "images", "are no .nii.gz or .nii file (convert volumes)"),
        (root / "labels", "are the label of no image, or a second one"),
        (root / "dicom", "are neither a series nor the label of one"),
    ):
        rest = [path.name for path in inside(folder) if path not in used and path.name != "labels.json"]
        if rest:
            names = ", ".join(rest[:5]) + (", ..." if len(rest) > 5 else "")
            said.append(f"{len(rest)} entries of {folder} are left out, since they {what}: {names}")
    return said


def label_names_file(root: Path) -> Path | None:
    """The ``labels.json`` of a data set, or None."""
    return next((path for path in (root / "labels.json", root / "labels" / "labels.json") if path.is_file()), None)


def _volumes(folder: Path) -> list[Path]:
    return [path for path in inside(folder) if volume_stem(path)]


def _series(folder: Path) -> dict[Path, list[Path]]:
    """By entry of a folder, the series at or below it; a link to nothing stands for the series that it should lead to."""
    found = {path: [path] if not path.exists() else series_folders(path) for path in inside(folder) if not path.is_file()}
    return {path: series for path, series in found.items() if series and not path.name.lower().endswith(LABEL_ENDINGS)}


def _scan_of_series(top: Path, found: Sequence[Path], names: Collection[str], labelled: bool) -> Scan:
    case = f"{top.name}_dicom" if top.name in names else top.name
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(top)) for path in found[:4]) + (", ..." if len(found) > 4 else "")
        problem = (
            f"{top} holds {len(found)} series ({listed}); keep the one that was segmented, or give each its folder "
            "beside it; if they are the slices of one series, put these into one folder"
        )
        return Scan(case, top, None, top.name, problem)
    label, problem = _label_of_series(top, found[0]) if labelled else (None, "")
    return Scan(case, found[0], label, top.name, problem)


def _label_of_file(image: Path) -> Path | None:
    folder, stem = image.parent.parent / "labels", volume_stem(image)
    return next((path for path in inside(folder) if volume_stem(path) in (stem, f"{stem}_label", f"{stem}_seg")), None)


def _label_of_series(top: Path, series: Path) -> tuple[Path | None, str]:
    """The label of a series: beside its folder, else a SEG or RTSTRUCT within; and what is wrong where there are several."""
    beside = {path.name.lower(): path for path in inside(top.parent)}
    named = next((beside[name] for end in LABEL_ENDINGS if (name := (top.name + end).lower()) in beside), None)
    if named:
        return named, ""
    called = [path for path in inside(series) if path.suffix.lower() == ".dcm" and path.stem.lower().endswith("seg")]
    within = (
        called
        if len(called) == 1
        else [path for path in sorted(top.rglob("*")) if not path.name.startswith(".") and label_reader(path)]
    )
    if len(within) > 1:
        listed = ", ".join(str(path.relative_to(top)) for path in within[:4])
        return None, f"{top} holds {len(within)} label files ({listed}); put the right one beside it as {top.name}_seg.dcm"
    return (within[0], "") if within else (None, "")
