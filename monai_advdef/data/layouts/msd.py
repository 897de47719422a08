"""The Medical Segmentation Decathlon, any of its tasks: ``imagesTr``, ``labelsTr`` and a ``dataset.json`` that lists the cases.

::

    Task09_Spleen/
        dataset.json      {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": [...], "test": [...]}
        imagesTr/spleen_2.nii.gz, labelsTr/spleen_2.nii.gz, imagesTs/spleen_1.nii.gz

Source: Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 2022, and its ``dataset.json``. A case with
several channels is one 4-D file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_advdef.data.layouts.dataset_json import NO_ABOUT, About, read_about
from monai_advdef.data.layouts.rows import Listed, Row, bare, inside, settle
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError

PARTS = {"Tr": "train", "Ts": "test"}


def reason(root: Path) -> str:
    """Why a folder is one of the Decathlon; empty where it is none."""
    for part in PARTS:
        images = inside(root / f"images{part}")
        if images and (root / f"labels{part}").is_dir():
            told = "dataset.json names modality and labels, and " if (root / "dataset.json").is_file() else ""
            return f"{told}images{part}/ and labels{part}/ hold files of one name, such as {images[0].name}"
    listed = _listed(root)
    return f"dataset.json lists the cases for training, such as {listed[0]}" if listed else ""


def _listed(root: Path) -> list[str]:
    """The images that a ``dataset.json`` lists with a label, in whatever folders."""
    try:
        about = read_about(root)
    except DataError:
        return []
    entries = about.raw.get("training") if about and about.class_names else None
    told = entries if isinstance(entries, list) else []
    return [str(entry["image"]) for entry in told if isinstance(entry, dict) and {"image", "label"} <= entry.keys()]


def read(root: Path) -> Listed:
    """Every labelled case that ``dataset.json`` lists, or, where it lists none, that the folders hold."""
    about = read_about(root)
    if about is None:
        return Listed(problems=[f"{root} {NO_ABOUT}"])
    listed = Listed(channels=about.channels, class_names=about.class_names)
    pairs = [pair for part in PARTS for pair in _pairs(root, about, part, listed)]
    for image, label, section in pairs:
        missing = [path for path in (image, label) if not path.exists()]
        if missing:
            listed.problems.append(
                f"{about.path} lists {image.name}, but there is no file {missing[0]}; fetch it, or take it out of the list"
            )
        else:
            listed.rows.append(Row(bare(image), bare(image), (image,), (label,), section))
    told = {image for image, _, _ in pairs}
    left = [path for path in inside(root / "imagesTr") if path not in told]
    if left:
        names = some([path.name for path in left])
        listed.notes.append(f"{len(left)} files in imagesTr are not in the list of dataset.json and are left out ({names})")
    if {row.section for row in listed.rows} == {"train"}:
        listed.rows = [Row(r.case, r.patient, r.images, r.masks) for r in listed.rows]
    return settle(listed)


def _pairs(root: Path, about: About, part: str, listed: Listed) -> list[tuple[Path, Path, str]]:
    """Image, label and section of the cases of a part; images without a label are noted."""
    section = PARTS[part]
    entries = about.raw.get({"train": "training", "test": "test"}[section]) or []
    found = []
    unlabelled = 0
    for entry in entries:
        image, label = _entry(entry, root, about.path)
        label = label or next((path for path in inside(root / f"labels{part}") if image and bare(path) == bare(image)), None)
        if label is None:
            unlabelled += 1
        else:
            found.append((image, label, section))
    if not entries:
        labels = {bare(path): path for path in inside(root / f"labels{part}")}
        images = inside(root / f"images{part}")
        found = [(image, labels[bare(image)], section) for image in images if bare(image) in labels]
        unlabelled = len(images) - len(found)
    if unlabelled and section == "train":
        listed.problems.append(f"{unlabelled} images of imagesTr have no label in labelsTr; add the labels, or move the images away")
    elif unlabelled:
        listed.notes.append(f"{unlabelled} cases of imagesTs have no labels and are left out: they can be predicted, not evaluated")
    return found


def _entry(entry: Any, root: Path, table: Path) -> tuple[Path, Path | None]:
    told = entry if isinstance(entry, Mapping) else {"image": entry}
    if not isinstance(told.get("image"), str):
        raise DataError(f"{table} lists {entry!r}, which names no image; an entry is {{image, label}}")
    return root / told["image"], root / told["label"] if isinstance(told.get("label"), str) else None
