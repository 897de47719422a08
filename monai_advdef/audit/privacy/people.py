"""Names, ids, dates and paths stay with the user: cases are called by pseudonyms, and what is written or logged is masked.

A pseudonym is a digest of what the image file holds. It says nothing of the name of the file, is the same in every audit of the same
image, whichever model, machine or selection of cases, so that audits can be compared case by case; and who has no image cannot guess
it. What each one stands for is written to ``private/`` of the output folder alone, which is never shown or uploaded.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_advdef.errors import DataError
from monai_advdef.neighbours import cannot_write, whole
from monai_advdef.report.subgroups import read_groups

FOLDER, KEY, GROUPS = "private", "cases.csv", "groups.csv"
COLUMNS = ("case", "patient", "name", "patient_name", "files")
DIGITS = 10
"""Hexadecimal digits of a pseudonym: among ten thousand images two share one with a probability of five in a hundred thousand."""
CHUNK, CHUNKS = 1 << 15, 8  # bytes, and places, of a file that are looked at


class Person(NamedTuple):
    """What a pseudonym stands for: a row of ``private/cases.csv``."""

    case: str
    patient: str
    name: str
    patient_name: str
    files: tuple[str, ...]


def pseudonyms(cases: Sequence[Mapping[str, Any]], *, image_key: str = "image") -> tuple[list[dict[str, Any]], list[Person]]:
    """The cases under pseudonyms, in their order, and what each stands for.

    ``case`` becomes ``case-3fa09b21c4``, a digest of the image's content; ``patient`` the same for all cases of one patient:
    ``patient-`` with the digits of its first. All else stays, the files among it. Equal images are told apart by a number.

    Args:
        cases: mappings with the image (a file, a folder, a list of them, or an array) and, perhaps, ``case`` and ``patient``; where
            they lack these, the image's file is its name, and every case a patient.
        image_key: of the image.

    Raises:
        DataError: a case without an image, or a file that cannot be read.
    """
    named = []
    for number, case in enumerate(cases):
        if image_key not in case:
            raise DataError(f"case {case.get('case', number)!r} has no {image_key!r}; give each case the file of its image")
        files = tuple(_files(case))
        name = str(case.get("case") or (files[0] if files else number))
        named.append((content(case[image_key], name), name, str(case.get("patient") or name), files, number))
    seen: Counter[str] = Counter()
    patients: dict[str, str] = {}
    people: dict[int, Person] = {}
    for digits, name, patient, files, number in sorted(named):
        seen[digits] += 1
        digits = digits if seen[digits] == 1 else f"{digits}-{seen[digits]}"
        alias = patients.setdefault(patient, f"patient-{digits}")
        people[number] = Person(f"case-{digits}", alias, name, patient, files)
    ordered = [people[number] for number in range(len(cases))]
    return [{**case, "case": p.case, "patient": p.patient} for case, p in zip(cases, ordered)], ordered


def content(image: Any, name: str = "the image") -> str:
    """Ten hexadecimal digits of what an image holds: of an array its entries and where they lie, of a file its length and the bytes
    at eight places, of a folder or a list all files in it.

    Raises:
        DataError: a file that cannot be read, or neither a file nor an array.
    """
    sha = hashlib.sha256()
    try:
        for part in _parts(image):
            sha.update(part)
    except OSError as error:
        raise DataError(f"{name}: its image cannot be read ({error}); check the path and who may read it") from error
    return sha.hexdigest()[:DIGITS]


def _parts(image: Any) -> Iterator[bytes]:
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        if path.is_dir():
            yield from sorted(hashlib.sha256(b"".join(_looked_at(p))).digest() for p in path.rglob("*") if p.is_file())
        else:
            yield from _looked_at(path)
    elif isinstance(image, (list, tuple)):
        for one in image:
            yield from _parts(one)
    else:
        array = np.ascontiguousarray(image.numpy(force=True) if hasattr(image, "numpy") else np.asarray(image))
        if array.dtype == object:
            raise DataError(f"an image is a {type(image).__name__}, neither a file nor an array; give its file")
        yield f"{array.shape}{array.dtype}".encode()
        yield array.tobytes()
        if (affine := getattr(image, "affine", None)) is not None:  # the same voxels of another size are another image
            yield np.asarray(affine.cpu(), dtype=float).tobytes()


def _looked_at(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield str(size).encode()
    with open(path, "rb") as file:
        if size <= CHUNK * CHUNKS:
            yield file.read()
            return
        for place in range(CHUNKS):
            file.seek((size - CHUNK) * place // (CHUNKS - 1))
            yield file.read(CHUNK)


def _files(case: Mapping[str, Any]) -> Iterator[str]:
    """Every file or folder that a case names."""
    for value in case.values():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, os.PathLike) or (isinstance(one, str) and os.sep in one):
                yield os.fspath(one)


def private(output_dir: str | Path) -> Path:
    """The folder of what is not to be shown: made when needed, closed to others, and kept out of git."""
    folder = Path(output_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return folder


def write_key(output_dir: str | Path, people: Sequence[Person]) -> Path:
    """Write ``private/cases.csv`` and return its path.

    Raises:
        OSError: it cannot be written; names it and the remedy.
    """
    path = Path(output_dir) / FOLDER / KEY
    try:
        private(output_dir)
        with whole(path) as new, open(new, "w", encoding="utf-8", newline="") as file:
            os.chmod(new, 0o600)
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            rows.writerows([*person[:4], "|".join(person.files)] for person in sorted(people))
    except OSError as error:
        raise cannot_write(path, error, "what the pseudonyms stand for") from error
    return path


def read_key(output_dir: str | Path) -> list[Person]:
    """What the pseudonyms of an audit stand for; nothing where it has none.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(output_dir) / FOLDER / KEY
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the audit again, it writes the file anew") from error
    if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise DataError(f"{path}: is not what an audit writes; run the audit again, it writes the file anew")
    return [
        Person(case, patient, name, known_as, tuple(filter(None, files.split("|"))))
        for case, patient, name, known_as, files in rows[1:]
    ]


def hidden_groups(path: str | Path, people: Sequence[Person], output_dir: str | Path) -> Path:
    """A user's list of groups (``--groups``), its cases or patients under their pseudonyms; written to ``private/groups.csv``.

    Names that are not of this audit are left out; pseudonyms stay.

    Raises:
        DataError: as :func:`monai_advdef.report.subgroups.read_groups`; no name is of this audit.
        OSError: it cannot be written; names it and the remedy.
    """
    by, table = read_groups(path)
    known = {(p.name if by == "case" else p.patient_name): (p.case if by == "case" else p.patient) for p in people}
    table.index = [known.get(name, name) for name in table.index]
    table = table[table.index.isin(known.values())]
    if not len(table):
        raise DataError(
            f"{path} holds none of the {len(known)} of this audit; write its column {by} as in the column "
            f"{'name' if by == 'case' else 'patient_name'} of {Path(output_dir) / FOLDER / KEY}"
        )
    made = Path(output_dir) / FOLDER / GROUPS
    try:
        private(output_dir)
        with whole(made) as new:
            table.to_csv(new, index_label=by)
    except OSError as error:
        raise cannot_write(made, error, "the groups under pseudonyms") from error
    return made
