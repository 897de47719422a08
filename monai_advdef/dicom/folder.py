"""What stands in a folder of DICOM files: slices, other DICOM objects, and files that are neither."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydicom.filereader import dcmread, read_file_meta_info
from pydicom.uid import UID

from monai_advdef.dicom.series_slices import Slice, is_dicom, slices_of
from monai_advdef.errors import DataError, reading

NO_MARK = "without the mark DICM that DICOM files bear"
SUFFIXES = (".dcm", ".dicom", ".ima")
SECTIONAL = ("CT Image", "MR Image", "Positron Emission", "Nuclear Medicine")  # in the names of SOP classes whose images are slices


def inside(folder: Path) -> list[Path]:
    """What a folder holds, by name, without what is hidden; a :class:`DataError` where it cannot be listed, [] for no folder."""
    if not folder.is_dir():
        return []
    with reading(folder, "cannot be listed", "give it the rights to be read"):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_series(folder: Path) -> bool:
    """Whether a folder itself holds slices: a DICOM image among its files, or what is called one and lost its mark."""
    return any(path.is_file() and _may_hold_slices(path) for path in inside(folder))


def series_folders(folder: Path) -> list[Path]:
    """The folders with slices at or below ``folder`` (Patient/Study/Series), none within another; links are not followed."""
    if is_series(folder):
        return [folder]
    below = [path for path in inside(folder) if path.is_dir() and not path.is_symlink()]
    return [found for path in below for found in series_folders(path)]


def modality_of(series: Path) -> str:
    """The Modality of the first slice in a folder; empty where that cannot be read."""
    for path in inside(series):
        if path.is_file() and _may_hold_slices(path):
            try:
                return str(dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
            except Exception:  # damaged: reading the series tells
                return ""
    return ""


def look_through(root: Path) -> tuple[list[Slice], list[Path], list[Path]]:
    """All slices of a folder (not of its sub-folders) or file, the DICOM files without any, and the files that are not DICOM.

    Raises:
        DataError: nothing there, a link to nothing, a file that should be DICOM by its name (its suffix, or a name like those of
            the slices but for the digits) and is not, or one that is damaged.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist; give the folder of one series")
    slices: list[Slice] = []
    others: list[Path] = []
    ignored: list[Path] = []
    for path in _files(root):
        with reading(path):
            dicom = is_dicom(path)
        found = slices_of(path) if dicom else []
        slices += found
        if not found:
            (others if dicom else ignored).append(path)
    shapes = {_shape(item.path) for item in slices}
    for path in ignored if root.is_dir() else ():
        if not path.name.startswith(".") and (path.suffix.lower() in SUFFIXES or _shape(path) in shapes):
            called = f"called {path.suffix}" if path.suffix.lower() in SUFFIXES else "called like the slices"
            raise DataError(f"{path} is {called}, {NO_MARK}; fetch it again, or write it with file meta information")
    return slices, others, ignored


def part_slices(slices: Sequence[Slice]) -> tuple[list[Slice], list[Path]]:
    """The images that can be slices of a volume, and the files of those that are none beside them.

    None are secondary captures, radiographs and the like beside CT, MR or PET, and localizers, unless they look like the slices of
    the series they are in: then one of the two is wrong, which :func:`check_slices` says.
    """
    sectional = [item for item in slices if any(word in item.kind for word in SECTIONAL)] or list(slices)
    upright = {item.uid: item for item in sectional if not item.localizer}
    kept = [item for item in sectional if not item.localizer or (item.uid in upright and item.alike(upright[item.uid]))]
    if not upright:
        kept = sectional
    return kept, sorted({item.path for item in slices} - {item.path for item in kept})


def passed_over(root: Path, files: Sequence[Path]) -> str:
    """What is said of files of a series folder that are no slices; empty where there are none."""
    if not files:
        return ""
    names = ", ".join(path.name for path in files[:5]) + (", ..." if len(files) > 5 else "")
    return f"{root}: passed over {len(files)} file(s) that are no slices ({names})"


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    with reading(root, "cannot be listed", "give it the rights to be read"):
        found = sorted(path for path in root.iterdir() if not path.is_dir())
    dangling = [path for path in found if not path.exists()]
    if dangling:
        raise DataError(
            f"{root} holds {len(dangling)} link(s) to files that are not there, such as {dangling[0].name}: fetch them "
            "(git annex get, dvc pull), or remove the links"
        )
    return found


def _may_hold_slices(path: Path) -> bool:
    if not os.access(path, os.R_OK):
        return path.suffix.lower() in SUFFIXES
    if not is_dicom(path):
        return path.suffix.lower() in SUFFIXES
    try:
        kind = UID(str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))).name
    except Exception:  # damaged: reading the series tells
        return True
    return not kind or "Image Storage" in kind


def _shape(path: Path) -> str:
    """A name with its digits left out: those of the slices of one series are alike."""
    return re.sub(r"\d+", "#", path.name.lower())
