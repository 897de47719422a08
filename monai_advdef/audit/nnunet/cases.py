"""The cases of an nnU-Net's data: ``imagesTs/case_0000.nii.gz`` and ``labelsTs/case.nii.gz``, or the training folders."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_advdef.audit.nnunet.plan import Plan, read_json
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError, reading

Files = dict[str, list[str]]  # of each case, a file per channel
PLACES = (("imagesTs", "labelsTs"), ("imagesTr", "labelsTr"), ("images", "labels"), (".", "labels"))
SPLITS = "splits_final.json"


def find_cases(plan: Plan, options: AuditOptions, folds: Sequence[str], notes: list[str]) -> list[dict[str, Any]]:
    """Every case with its files: test cases where they are labelled (or need not be), else those of the training folder.

    Args:
        folds: which networks predict, ``"0"`` or ``"all"``; of a single one only the cases that it was validated on, where
            ``splits_final.json`` tells them.
        notes: is told what was left out, and which cases a network has been trained on.

    Raises:
        DataError: no folder of that shape, no labels, a channel that is missing.
    """
    root = Path(options.dataset_dir).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"dataset_dir {root}: there is no such folder; give one with imagesTs and labelsTs")
    if options.images:
        images, labels, training = _by_patterns(root, options)
    else:
        images, labels, training = _by_folders(root, plan, options.unlabelled, notes)
    if training:
        images = _not_trained_on(images, root, plan, folds, notes)
    cases = []
    for case, files in sorted(images.items()):
        told: dict[str, Any] = {"case": case, "patient": case, "image": files}
        if not options.unlabelled:
            if case not in labels:
                continue
            told["label"] = labels[case]
        cases.append(told)
    if lonely := sorted(images.keys() - labels.keys()) if not options.unlabelled else []:
        notes.append(f"{len(lonely)} cases without a label are left out ({some(lonely)})")
    if not cases:
        raise DataError(f"{root}: none of the {len(images)} cases has a label; give --labels none to measure stability without them")
    return cases


def _by_folders(root: Path, plan: Plan, unlabelled: bool, notes: list[str]) -> tuple[Files, dict[str, str], bool]:
    listed = _listed(root)
    for images_at, labels_at in PLACES:
        if images_at == "imagesTr" and listed:
            images, labels = listed
        else:
            images, labels = _images(root / images_at, plan), _labels(root / labels_at, plan.ending)
            if images_at == "." and not labels and root.name.startswith("images"):  # one of the folders itself
                labels = _labels(root.with_name(root.name.replace("images", "labels", 1)), plan.ending)
        if images and (unlabelled or images.keys() & labels.keys()):
            return images, labels, images_at == "imagesTr"
        if images:
            notes.append(f"{len(images)} cases of {images_at} have no labels in {labels_at} and are left out")
    ending = plan.ending
    seen = sorted({"".join(p.suffixes) for p in root.glob("*/*_0000.*")} - {ending})
    told = f"; its files end in {', '.join(seen)}, the network was trained on {ending}" if seen else ""
    need = "images" if unlabelled else "images with labels"
    raise DataError(
        f"{root}: no {need} as nnU-Net names them (imagesTs/CASE_0000{ending} and labelsTs/CASE{ending}, or Tr){told}; bring them "
        "into that shape, or give --images and --labels patterns"
    )


def _images(folder: Path, plan: Plan) -> Files:
    """Files of each case in the order of their channels.

    Raises:
        DataError: a case that lacks a channel which others have.
    """
    found: dict[str, dict[int, str]] = {}
    pattern = re.compile(r"(.+)_(\d{4})" + re.escape(plan.ending))
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[1], {})[int(match[2])] = str(path)
    most = max((len(files) for files in found.values()), default=0)
    for case, files in found.items():
        if sorted(files) != list(range(most)):
            missing = min(set(range(most)) - set(files), default=most)
            raise DataError(
                f"{folder}: the case {case!r} has no file of channel {missing} (*_{missing:04}{plan.ending}); the channels are "
                f"{', '.join(plan.channels)}: fetch it, or move the case away"
            )
    return {case: [files[c] for c in range(most)] for case, files in found.items()}


def _labels(folder: Path, ending: str) -> dict[str, str]:
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name.removesuffix(ending): str(path) for path in found if path.name.endswith(ending)}


def _listed(root: Path) -> tuple[Files, dict[str, str]] | None:
    """The training cases that ``dataset.json`` lists one by one, as nnU-Net lets it."""
    listed = read_json(root / "dataset.json").get("dataset") if (root / "dataset.json").is_file() else None
    if not isinstance(listed, Mapping) or not listed:
        return None
    with reading(root / "dataset.json", "has a list 'dataset' of another shape than nnU-Net's", "give each case images and label"):
        images = {str(case): [str(root / os.path.expandvars(f)) for f in entry["images"]] for case, entry in listed.items()}
        labels = {str(case): str(root / os.path.expandvars(entry["label"])) for case, entry in listed.items()}
    if gone := [f for files in (*images.values(), labels.values()) for f in files if not Path(f).is_file()]:
        raise DataError(f"{root / 'dataset.json'} lists {len(gone)} files that are not there ({some(gone)}); correct it")
    return images, labels


def _by_patterns(root: Path, options: AuditOptions) -> tuple[Files, dict[str, str], bool]:
    """Cases by what stands for ``{case}`` in the names; a pattern per channel."""
    by_channel = [_matching(root, pattern) for pattern in options.images]
    cases = set(by_channel[0]).intersection(*by_channel)
    if not cases:
        raise DataError(f"images {options.images}: no case below {root} has a file for each")
    patterns = [] if options.unlabelled else options.labels
    labels = {case: file for pattern in patterns for case, file in _matching(root, pattern).items()}
    return {case: [files[case] for files in by_channel] for case in cases}, labels, False


def _matching(root: Path, pattern: str) -> dict[str, str]:
    if pattern.count("{case}") != 1:
        raise DataError(
            f"the pattern {pattern!r} must hold {{case}} once, where the name of the case stands: imagesTs/{{case}}_0000.nii.gz"
        )
    before, after = pattern.split("{case}")
    names = re.compile(re.escape(before) + "(.+)" + re.escape(after))
    below = ((path, names.fullmatch(path.relative_to(root).as_posix())) for path in sorted(root.rglob("*")))
    return {match[1]: str(path) for path, match in below if match}


def _not_trained_on(images: Files, root: Path, plan: Plan, folds: Sequence[str], notes: list[str]) -> Files:
    """Of a single fold the cases that it was validated on; of others all, and a note."""
    name = str(plan.manager.plans.get("dataset_name", ""))
    places = [root, plan.folder, plan.folder.parent, *(Path(e) / name for e in [os.environ.get("nnUNet_preprocessed")] if e)]
    file = next((p / SPLITS for p in places if (p / SPLITS).is_file()), None)
    if file is None:
        notes.append(
            f"the cases are of the training folder and no {SPLITS} says which the network was trained on: its scores flatter"
        )
        return images
    with reading(file, "has no list of splits", "copy it again from nnUNet_preprocessed"):
        splits = [set(map(str, split["val"])) for split in json.loads(file.read_text(encoding="utf-8"))]
    if len(folds) == 1 and folds[0].isdigit() and int(folds[0]) < len(splits):
        kept = {case: files for case, files in images.items() if case in splits[int(folds[0])]}
        if kept:
            notes.append(f"of the training folder the {len(kept)} cases that fold {folds[0]} was validated on ({file.name})")
            return kept
    notes.append(
        "the cases are of the training folder; each was trained on by at least one fold of the ensemble: its scores flatter"
    )
    return images
