"""Masking of text: names of cases and patients by their pseudonyms, paths by their last part, in logs, warnings and files."""

from __future__ import annotations

import logging
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monai_advdef.audit.privacy.people import Person
from monai_advdef.handlers.cell import MASK

SHORT = 3
"""Names of fewer letters are words of other sentences, too, and are left."""
_PLAIN = frozenset(
    "image images label labels mask masks scan scans case cases patient patients data dataset train training test val validation "
    "imagestr imagests labelstr labelsts seg segmentation none unknown anonymous dicom nifti nii png home tmp".split()
)
_PART = r"[^\s\\/'\"`,;:()\[\]{}<>|*?]+"
_PATH = re.compile(rf"(?<![\w.:/~-])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:{_PART}[\\/])+(?={_PART}|\s|$|['\"`])")
_HEADERS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientAddress", "AccessionNumber", "StudyID"),
    *("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstitutionName", "ReferringPhysicianName", "OperatorsName"),
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
)


class Mask:
    """Replaces, in any text, what could tell who the patients are.

    Files of cases become ``<case-3fa09b21c4>``; names of cases and patients, and of the files and folders they lie in, their
    pseudonyms; all else below the data ``<data>``; what DICOM headers say of the patient ``<header>``; any other absolute path its
    last part, ``…/model.pt``.

    Args:
        people: what the pseudonyms stand for.
        folders: where the data lie: names of folders below them that hold one patient are names, too.
        keep: words that are none, such as the names of classes.
        headers: read the first file of each DICOM case for what its header says.
    """

    def __init__(
        self, people: Sequence[Person], *, folders: Sequence[str | Path] = (), keep: Sequence[str] = (), headers: bool = True
    ) -> None:
        found: dict[str, str] = {}
        for text, alias in _of_folders(people, [Path(folder).resolve() for folder in folders]):
            found.setdefault(text, alias)
        for person in people:
            found |= {name: alias for name, alias in ((person.patient_name, person.patient), (person.name, person.case))}
            found |= {text: "<header>" for text in (_header(person.files) if headers else ())}
        left = {word.casefold() for word in keep}
        known = {text: alias for text, alias in found.items() if _telling(text) and text.casefold() not in left}
        files = {file: f"<{person.case}>" for person in people for file in person.files}
        files |= {str(Path(file).resolve()): alias for file, alias in files.items()}
        self._files, self._names = _Words(files, whole=False), _Words(known, whole=True)
        roots = sorted(
            {re.escape(str(f)) for folder in folders for f in (Path(folder).absolute(), Path(folder).resolve())},
            key=len,
            reverse=True,
        )
        self._data = re.compile(rf"(?:{'|'.join(roots)})(?![\w.-])(?:[\\/]{_PART})*[\\/]?") if roots else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        text = self._files(text)
        text = text if self._data is None else self._data.sub("<data>", text)
        return self._names(_PATH.sub("…/", text))


class _Words:
    """Replaces words, the longest first."""

    def __init__(self, found: dict[str, str], *, whole: bool) -> None:
        self.found = {text.casefold(): alias for text, alias in found.items()}
        parts = "|".join(re.escape(text) for text in sorted(found, key=len, reverse=True))
        around = (r"(?<![^\W_])(?:", r")(?![^\W_])") if whole else ("(?:", ")")
        self.pattern = re.compile(parts.join(around), re.IGNORECASE) if found else None

    def __call__(self, text: str) -> str:
        if self.pattern is None:
            return text
        return self.pattern.sub(lambda match: self.found.get(match[0].casefold(), "<name>"), text)


def _telling(text: str) -> bool:
    """Whether a text is a name and not a word or number that stands anywhere."""
    return len(text) >= SHORT and text.casefold() not in _PLAIN and not (text.isdigit() and len(text) < 5)


def _of_folders(people: Sequence[Person], roots: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Names of files, and of folders below the data that hold one patient, with the pseudonym of their case."""
    parts: dict[str, dict[str, str]] = {}
    for person in people:
        for file in person.files:
            path = Path(file).resolve()
            root = next((root for root in roots if path.is_relative_to(root)), path.parent)
            for name in (*path.relative_to(root).parts, path.name.partition(".")[0], path.stem):
                parts.setdefault(name, {}).setdefault(person.patient, person.case)
    yield from ((name, next(iter(held.values()))) for name, held in parts.items() if len(held) == 1)


def _header(files: Sequence[str]) -> set[str]:
    """What the header of the first DICOM file of a case says of the patient and the study."""
    import pydicom

    told: set[str] = set()
    for file in files:
        path = Path(file)
        first = next((p for p in sorted(path.rglob("*")) if p.is_file()), None) if path.is_dir() else path
        if first is None or first.suffix.lower() not in ("", ".dcm", ".dicom", ".ima"):
            continue
        try:
            header = pydicom.dcmread(first, stop_before_pixels=True, specific_tags=list(_HEADERS))
        except Exception:  # no DICOM file, or a damaged one, which its reader tells
            continue
        told |= {str(header.get(tag, "")) for tag in _HEADERS}
    names = {part for text in told for part in (text, *text.split("^")) if part}
    return {text for text in names if not (text.isdigit() and len(text) < 8)}


@contextmanager
def masking(mask: Callable[[str], str]) -> Iterator[None]:
    """Inside, every record that is logged by whatever library is masked, its traceback too, every warning, and every text
    that is recorded."""
    made, shown = logging.getLogRecordFactory(), warnings.formatwarning

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        with suppress(TypeError, ValueError, KeyError):  # a message that does not fit its arguments; logging itself tells it
            record.msg, record.args = mask(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = mask("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        record.stack_info = mask(record.stack_info) if record.stack_info else record.stack_info
        record.pathname = os.path.basename(record.pathname)
        return record

    def warning(*args: Any, **kwargs: Any) -> str:
        return mask(shown(*args, **kwargs))

    logging.setLogRecordFactory(factory)
    warnings.formatwarning = warning
    told = MASK.set(mask)
    try:
        yield
    finally:
        MASK.reset(told)
        logging.setLogRecordFactory(made)
        warnings.formatwarning = shown
