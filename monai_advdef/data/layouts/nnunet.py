"""nnU-Net's raw folders, of any task: ``imagesTr/case_0000.nii.gz`` (a file a channel), ``labelsTr/case.nii.gz``, ``dataset.json``.

::

    Dataset004_Hippocampus/
        dataset.json
        imagesTr/hippocampus_001_0000.nii.gz      (.png, .tif, ... of pictures, which keep their colours in one file)
        labelsTr/hippocampus_001.nii.gz
        imagesTs/..., labelsTs/...                (the latter where the test labels are known)

Source: documentation/dataset_format.md of nnU-Net, versions 1 and 2.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from monai_advdef.data.layouts.dataset_json import NO_ABOUT, About, read_about
from monai_advdef.data.layouts.rows import Listed, Row, bare, inside, is_volume, settle
from monai_advdef.data.listing import IMAGE_SUFFIXES
from monai_advdef.data.notes import some

CHANNEL = re.compile(r"(.+)_(\d{4})")
PARTS = {"Tr": "train", "Ts": "test"}


def reason(root: Path) -> str:
    """Why a folder is one of nnU-Net's; empty where it is none."""
    for part in PARTS:
        images = [path for path in _images(root / f"images{part}")]
        if images and all(CHANNEL.fullmatch(bare(path)) for path in images):
            told = "dataset.json names channel_names and " if _has_channels(root) else ""
            return f"{told}images{part}/ holds files called *_0000.*, such as {images[0].name}"
    return ""


def read(root: Path) -> Listed:
    """Every labelled case; ``imagesTs`` without labels are left out, and counted."""
    about = read_about(root)
    if about is None:
        return Listed(problems=[f"{root} {NO_ABOUT}"])
    listed = Listed(channels=about.channels, class_names=about.class_names)
    for part, section in PARTS.items():
        _read_part(root, part, section, about, listed)
    told = about.raw.get("numTraining")
    found = sum(row.section == "train" for row in listed.rows)
    if isinstance(told, int) and told != found:
        listed.notes.append(f"{about.path} tells of {told} training cases, here are {found}")
    if {row.section for row in listed.rows} == {"train"}:  # nothing official to test on
        listed.rows = [Row(r.case, r.patient, r.images, r.masks) for r in listed.rows]
    return settle(listed)


def _read_part(root: Path, part: str, section: str, about: About, listed: Listed) -> None:
    labels = {bare(path): path for path in _images(root / f"labels{part}")}
    cases = _cases(root, part, about)
    if cases and not labels and part == "Ts":
        listed.notes.append(f"{len(cases)} cases of imagesTs have no labels and are left out: they can be predicted, not evaluated")
        return
    lonely = [case for case in cases if case not in labels]
    if lonely:
        listed.problems.append(
            f"{len(lonely)} of {len(cases)} cases in images{part} have no label in labels{part} ({some(lonely)}); add the files, or "
            "move the images away"
        )
    idle = sorted(labels.keys() - cases.keys())
    if idle:
        listed.notes.append(f"{len(idle)} labels in labels{part} have no image and are left out ({some(idle)})")
    for case, images in cases.items():
        wanted = range(len(about.channels) or 1) if is_volume(next(iter(images.values()))) else range(1)
        missing = [number for number in wanted if number not in images]
        extra = sorted(images.keys() - set(wanted))
        if missing or extra:
            told = f"no file of channel {missing[0]} (*_{missing[0]:04})" if missing else f"a file {images[extra[0]].name}"
            listed.problems.append(
                f"the case {case!r} in images{part} has {told}; {about.path.name} names the channels "
                f"{dict(enumerate(about.channels))}: fetch the file, or correct channel_names"
            )
        elif case in labels:
            listed.rows.append(Row(case, case, tuple(images[number] for number in wanted), (labels[case],), section))


def _cases(root: Path, part: str, about: About) -> Mapping[str, dict[int, Path]]:
    """The files of each case by channel: as ``dataset.json`` lists them, or as they are called."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in _images(root / f"images{part}"):
        match = CHANNEL.fullmatch(bare(path))
        if match and (not about.ending or path.name.lower().endswith(about.ending.lower())):
            found[match[1]][int(match[2])] = path
    return found


def _images(folder: Path) -> list[Path]:
    return [path for path in inside(folder) if is_volume(path) or path.suffix.lower() in IMAGE_SUFFIXES]


def _has_channels(root: Path) -> bool:
    path = root / "dataset.json"
    return path.is_file() and "channel_names" in path.read_text(encoding="utf-8-sig", errors="replace")
