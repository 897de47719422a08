"""Where the volumes of a subject lie: folders with one file a series, as BraTS has them, or the Medical Segmentation Decathlon.

Files are known by the last word of their names, after ``_`` or ``-``: ``t1.nii.gz``, ``Brats18_2013_3_1_t1ce.nii.gz`` (BraTS 2017
to 2021, label values 0, 1, 2, 4), ``BraTS-GLI-00005-001-t2w.nii.gz`` (BraTS 2023, known by ``t1n`` and ``t2f``: label values 0 to 3;
the last number is the visit of a patient). Task01 of the Decathlon (Antonelli et al., "The Medical Segmentation Decathlon", 2022)
has one file of four volumes a subject, and says in ``dataset.json`` which series is which, and what the label values mean. In place
of its file, a series may be a folder of that name with its DICOM slices.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_advdef.data.tasks import Task
from monai_advdef.data.volume_files import volume_stem
from monai_advdef.dicom.folder import inside, is_series
from monai_advdef.errors import DataError

WORDS = {
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f"),
    "seg": ("seg", "segm"),
}
ROLE_OF = {word: role for role, words in WORDS.items() for word in words}
BRATS_2023 = {"t1n", "t2f"}
ABBREVIATIONS = {"bg": 0, "ncr": 1, "net": 1, "ncrnet": 1, "netc": 1, "ed": 2, "snfh": 2, "et": 3}  # of the BraTS challenges
DEPTH = 3  # folders down to a subject: MICCAI_BraTS_2018_Data_Training/HGG/Brats18_2013_3_1
GRADE_FOLDERS = {"HGG": "high", "LGG": "low"}


@dataclass
class Subject:
    """The files of one subject: ``files`` by series and ``"seg"``; in ``order``, the channels of a file that holds all series."""

    name: str
    folder: Path
    files: dict[str, Path]
    label_values: tuple[int, ...]
    order: tuple[int, ...] = ()
    patient: str = ""
    grade: str = ""
    problems: list[str] = field(default_factory=list)

    def item(self, series: tuple[str, ...]) -> dict[str, Any]:
        """What a data loader is given of this subject."""
        image = [str(self.files[name]) for name in series]
        about: dict[str, Any] = {"image": image[0] if self.order else image, "case": self.name}
        about |= {"label": str(self.files["seg"])} if "seg" in self.files else {}
        about |= {"patient": self.patient or self.name, "grade": self.grade, "label_values": self.label_values}
        return about | ({"series_order": self.order} if self.order else {})


def holds_subjects(root: Path) -> bool:
    """Whether a folder looks like one of subjects: NIfTI files one to three levels down, or DICOM folders called like series."""
    return any(_volumes(folder) for folder in _below(root))


def names_series(root: Path) -> bool:
    """Whether volumes one to three levels down, or DICOM folders, are called like MRI series."""
    return any(_role(path) in ROLE_OF and _role(path) not in WORDS["seg"] for folder in _below(root) for path in _volumes(folder))


def _below(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders at most ``depth`` levels below another."""
    for path in inside(root):
        if path.is_dir():
            yield path
            yield from _below(path, depth - 1) if depth > 1 else ()


def find_subjects(root: Path, task: Task, *, labelled: bool = True) -> list[Subject]:
    """All subjects of a folder sorted by name, with what is wrong with each so far; none of their files is opened.

    Args:
        labelled: false for subjects to predict, which need no label.

    Raises:
        DataError: no such folder, no subject in it, or a ``dataset.json`` that does not say which volume or label is which.
    """
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(root)!r} is not a folder; give the folder that holds the subjects")
    subjects = _decathlon(root, task, labelled) if (root / "dataset.json").is_file() else _folders(root, task, labelled)
    if not subjects:
        there = ", ".join(path.name for path in inside(root)[:5]) or "nothing"
        raise DataError(
            f"no subject in {root} (it holds: {there}); a subject is a folder with {', '.join(f'{w}.nii.gz' for w in WORDS)} "
            "(or <subject>_t1.nii.gz, ...), or the folder has a dataset.json as the Medical Segmentation Decathlon"
        )
    often = Counter(subject.name.casefold() for subject in subjects)
    for subject in subjects:
        if often[subject.name.casefold()] > 1:
            twins = ", ".join(str(other.folder) for other in subjects if other.name.casefold() == subject.name.casefold())
            subject.problems.append(f"two subjects are called {subject.name!r} ({twins}); rename one, or move it away")
    return sorted(subjects, key=lambda subject: (subject.name, str(subject.folder)))


def left_out(root: Path, subjects: Sequence[Subject]) -> list[str]:
    """What stands beside and among the files of the subjects and is not used, in words."""
    if (root / "dataset.json").is_file():
        return []
    used = {part for subject in subjects for part in (subject.folder, *subject.folder.parents)}
    around = sorted({root, *(subject.folder.parent for subject in subjects)})
    found = [path for folder in around for path in inside(folder) if path not in used]
    files = {path for subject in subjects for path in subject.files.values()}
    spare = [path for subject in subjects for path in _volumes(subject.folder) if path not in files and _role(path) not in ROLE_OF]
    kinds = {
        "folder(s) without a series": [path for path in found if path.is_dir() or not path.exists()],
        "volume(s) in no folder of a subject": [path for path in found if volume_stem(path) and path.is_file()],
        "volume(s) called like no series": spare,
    }
    return [
        f"{len(paths)} {what} of {root} left out: {', '.join(path.name for path in paths[:5])}{', ...' if len(paths) > 5 else ''}"
        for what, paths in kinds.items()
        if paths
    ]


def _role(path: Path) -> str:
    """The last word of a file's or folder's name, which tells what it is."""
    return re.split(r"[_-]", (path.name if path.is_dir() else volume_stem(path)).lower())[-1]


def _volumes(folder: Path) -> list[Path]:
    """What may be series and label of a subject: its NIfTI files, and folders called like a series that hold DICOM slices."""
    found = inside(folder)
    files = [path for path in found if volume_stem(path) and not path.is_dir()]
    return files + [path for path in found if path.is_dir() and _role(path) in ROLE_OF and is_series(path)]


def _folders(root: Path, task: Task, labelled: bool) -> list[Subject]:
    """Subjects that are folders, one to three levels down; ``HGG`` and ``LGG`` around them tell the grade."""
    subjects = []
    roles = (*task.series, "seg") if labelled else task.series
    for folder in sorted(_below(root)):
        volumes = _volumes(folder)
        if not volumes:
            continue
        found: dict[str, list[Path]] = {}
        words = set()
        for path in volumes:
            word = _role(path)
            if word in ROLE_OF:
                words.add(word)
                found.setdefault(ROLE_OF[word], []).append(path)
        values = (0, 1, 2, 3) if words & BRATS_2023 else task.label_values
        visit = re.fullmatch(r"(BraTS-\w+-\d+)-\d{3}", folder.name)
        subject = Subject(folder.name, folder, {role: found[role][0] for role in roles if role in found}, values)
        subject.patient, subject.grade = visit[1] if visit else "", GRADE_FOLDERS.get(folder.parent.name, "")
        for role in roles:
            if role not in found:
                there = ", ".join(path.name for path in volumes)
                other = [path.name for path in inside(folder) if re.split(r"[_-]", path.stem.lower())[-1] in WORDS[role]]
                hint = f"convert {other[0]} to NIfTI, " if other and not (folder / other[0]).is_dir() else ""
                subject.problems.append(
                    f"subject {folder.name} has no {role} in {folder} (it holds: {there}); {hint}add {role}.nii.gz or "
                    f"{folder.name}_{role}.nii.gz, or move the subject away"
                )
            elif len(found[role]) > 1:
                names = ", ".join(path.name for path in found[role])
                subject.problems.append(f"subject {folder.name} has more than one {role} in {folder} ({names}); keep one")
        subjects.append(subject)
    return subjects


def _decathlon(root: Path, task: Task, labelled: bool) -> list[Subject]:
    """Subjects as the ``training`` list of a ``dataset.json`` names them; to predict, those of ``test`` too, and no label."""
    path = root / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
        volumes = {int(number): str(name) for number, name in about["modality"].items()}
        labels = {int(number): str(name) for number, name in about["labels"].items()}
        listed = [(str(entry["image"]), str(entry["label"])) for entry in about["training"]]
        tests = [str(entry["image"] if isinstance(entry, dict) else entry) for entry in about.get("test") or ()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is not one of the Medical Segmentation Decathlon ({type(error).__name__}: {error}); it needs modality "
            "and labels (number to name) and training (a list of image and label)"
        ) from error
    series_of = {ROLE_OF.get(re.sub(r"\W", "", name.lower()), ""): number for number, name in volumes.items()}
    value_of = {tumour_class(name, task): number for number, name in labels.items()}
    absent = [name for name in task.series if name not in series_of]
    absent += [name for number, name in enumerate(task.classes) if number not in value_of]
    if not set(series_of) & set(task.series):
        named = ", ".join(volumes.values())
        raise DataError(
            f"{path} is of a data set of {named}, and the task {task.name} takes MRI with the series {', '.join(task.series)}; "
            f"{'choose the task abdomen' if 'CT' in volumes.values() else 'correct the names'}, or another folder"
        )
    if absent:
        raise DataError(f"{path} names no {absent[0]} (modality {volumes}, labels {labels}); correct the names")
    order = tuple(series_of[name] for name in task.series)
    values = tuple(value_of[number] for number in range(len(task.classes)))
    subjects = []
    for image, label in listed if labelled else [*listed, *((image, "") for image in tests)]:
        files = dict.fromkeys(task.series, root / image) | ({"seg": root / label} if labelled else {})
        subject = Subject(volume_stem(Path(image)) or Path(image).name, (root / image).parent, files, values, order)
        for missing in sorted({file for file in files.values() if not file.is_file()}):
            subject.problems.append(f"subject {subject.name} of {path} has no file {missing}; fetch it, or take it out of the list")
        subjects.append(subject)
    return subjects


def tumour_class(name: str, task: Task) -> int:
    """The class number of a label by its name: 0 background, 1 non-enhancing or necrotic, 2 oedema, 3 enhancing; -1 otherwise."""
    word = re.sub(r"[^a-z]", "", name.lower())
    if name in task.classes or word in ABBREVIATIONS:
        return task.classes.index(name) if name in task.classes else ABBREVIATIONS[word]
    kinds: Mapping[str, int] = {"background": 0, "nonenhanc": 1, "necro": 1, "edema": 2, "enhanc": 3}
    return next((number for kind, number in kinds.items() if kind in word), -1)
