"""What people call the columns of a table, and how its words name cases, patients and sections."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

# Without capitals, spaces and signs; the likeliest first.
ROLES: Mapping[str, tuple[str, ...]] = {
    "case": (
        *("image", "case", "images", "imageid", "imagename", "imagefile", "imagefilename", "imagepath", "imageindex", "imageno"),
        *("caseid", "casename", "img", "imgid", "imgname", "imgpath", "isicid", "filename", "file", "files", "filepath", "path"),
        *("volume", "volumeid", "scan", "scanid", "bild", "bilder", "bildname", "bilddatei", "dateiname", "datei", "id"),
    ),
    "patient": (
        *("patient", "patientid", "patients", "patientids", "patientnr", "patientno", "patientnumber", "patientkey", "patientcode"),
        *("patientname", "patientindex", "subject", "subjectid", "subjectkey", "subjectno", "subjectnumber", "participant"),
        *("participantid", "person", "personid", "patientin", "patientinid", "patientennummer", "patientennr", "patientenid"),
        *("idpatient", "patid", "pid", "proband", "probandid", "probandennummer", "patienten", "paciente", "idpaciente", "paziente"),
    ),
    "section": ("section", "split", "set", "subset", "partition", "phase", "usage", "fold", "datasplit"),
    "diagnosis": ("diagnosis", "diagnose", "dx", "diagnoses"),
    "grade": ("grade", "tumorgrade", "tumourgrade", "whograde"),
}
LIKE_A_PATIENT = re.compile(
    r"^(pt|mrn|pat|subj|person|individual|lesionid|studyid|examid|accession|hospitalno|medicalrecord|owner|proband)"
)
NO_PERSON = re.compile(r"age|sex|gender|size|weight|height|position|date|orientation|alter|geschlecht")
SECTIONS = ("train", "validation", "test")
SECTION_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr", "trainingsdaten"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "validate", "vali", "dev", "tuning", "validierung"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "ts", "te", "testdaten"), "test"),
}
EMPTY = ("", "nan", "na", "n/a", "#n/a", "none", "null", "nil", "-", "?")
FILE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".nii.gz", ".nii", ".dcm", ".mha", ".nrrd")


def key_of(column: str) -> str:
    """A column's name without capitals, accents, spaces and signs."""
    plain = unicodedata.normalize("NFKD", column).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def role_of(column: str, role: str) -> int | None:
    """How likely (0: most) a column has a role; ``None`` where it has not."""
    key = key_of(column)
    return ROLES[role].index(key) if key in ROLES[role] else None


def roles_of(cells: Iterable[str]) -> list[str]:
    """The roles that the words of a line would have, were it the header of a table, each once."""
    words = list(cells)
    return [role for role in ROLES if any(role_of(word, role) is not None for word in words)]


def like_patients(columns: Iterable[str]) -> list[str]:
    """The columns that may be meant as patients though they are not called so."""
    return [column for column in columns if LIKE_A_PATIENT.match(key_of(column)) and not NO_PERSON.search(key_of(column))]


class Names:
    """Finds the case that a word of a table means: its name, or its file, with or without folder and ending.

    Where that gives none, capitals are passed over, and then the noughts that a spreadsheet takes from numbers (``007`` is ``7``,
    and ``7.0``), if no other case can be meant; ``loose`` holds what was found so.

    Args:
        files: the file or folder name of every case.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self.cases = dict.fromkeys(files)
        self.exact: dict[str, set[str]] = defaultdict(set)
        self.near: dict[str, set[str]] = defaultdict(set)
        for case, name in files.items():
            for word in (name, stem(name), case):
                self.exact[word].add(case)
                self.near[word.casefold()].add(case)
            if number(case):
                self.near[number(case)].add(case)
        self.loose: dict[str, str] = {}

    def __contains__(self, word: str) -> bool:
        return self.find(word) is not None

    def find(self, word: str) -> str | None:
        """The case of a word; ``None`` where none is meant, or more than one may be."""
        if word in self.cases:
            return word
        base = PurePosixPath(word.replace("\\", "/")).name
        for candidate in (word, base, stem(base)):
            if len(self.exact.get(candidate, ())) == 1:
                return next(iter(self.exact[candidate]))
        for candidate in (base.casefold(), stem(base).casefold(), number(base), number(stem(base))):
            if candidate and len(self.near.get(candidate, ())) == 1:
                case = next(iter(self.near[candidate]))
                self.loose[word] = case
                return case
        return None

    def told(self) -> str:
        """What was found by passing something over, in words; empty where nothing was."""
        if not self.loose:
            return ""
        pairs = [f"{word!r} for {case!r}" for word, case in list(self.loose.items())[:3]]
        return f"{len(self.loose)} names match only without capitals or leading noughts: {', '.join(pairs)}"


def stem(name: str) -> str:
    """A file name without its ending, where that is one of images and volumes: ``1.2.840.0`` has none."""
    ending = next((ending for ending in FILE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def number(word: str) -> str:
    """``"#7"`` of ``007``, ``7`` and ``7.0``; empty where a word is no whole number."""
    found = re.fullmatch(r"0*(\d+?)(?:[.,]0+)?", word)
    return f"#{found.group(1)}" if found else ""


def one_spelling(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of which those that differ in capitals, spaces or a spreadsheet's noughts are spelt as the first of them, and these."""
    first: dict[str, str] = {}
    other: dict[str, str] = {}
    for word in words:
        key = number(word) or " ".join(word.casefold().split())
        if first.setdefault(key, word) != word:
            other[word] = first[key]
    return [other.get(word, word) for word in words], [f"{word!r} and {kept!r}" for word, kept in other.items()]
