"""Where the labels are of images that a bundle lists alone: beside them, as the user says, or as the layout of the folder has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_advdef.audit.reading import AuditOptions
from monai_advdef.data.layouts.core import DIRECT
from monai_advdef.data.layouts.patterns import as_patterns, listed_by_patterns
from monai_advdef.data.layouts.rows import Listed, Row, bare, inside
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError

SUFFIXES = ("_seg", "_mask", "_label", "_labels", "_segmentation", "_gt", "-seg", "-mask", "-label")
# folders of images, and those of labels beside them
FOLDERS = {
    "imagestr": ("labelsTr",),
    "imagests": ("labelsTs",),
    "imagesval": ("labelsVal",),
    "images": ("labels", "masks", "label", "mask", "segmentations", "annotations"),
    "image": ("label", "mask", "labels", "masks"),
    "img": ("seg", "mask", "lbl", "label"),
    "imgs": ("segs", "masks", "lbls", "labels"),
}
_CHANNEL = re.compile(r"_\d{4}$")
LAYOUTS = ("msd", "nnunet", "folders", "sections", "paired")


@dataclass
class Pairs:
    """Images with their labels as a layout or the user's patterns tell them."""

    name: str
    rows: Sequence[Row]
    notes: list[str]

    def items(self, image_key: str, label_key: str) -> list[dict[str, Any]]:
        """A case of each."""
        return [
            {
                "case": row.case,
                "patient": row.patient,
                image_key: [str(p) for p in row.images] if len(row.images) > 1 else str(row.images[0]),
                label_key: [str(p) for p in row.masks] if len(row.masks) > 1 else str(row.masks[0]),
            }
            for row in self.rows
        ]


def patterns(options: AuditOptions) -> list[str]:
    """The patterns of labels that the user gave."""
    return [] if options.unlabelled else as_patterns(options.labels)


def label_of(image: Path, options: AuditOptions) -> Path | None:
    """The label of one image.

    Raises:
        DataError: there are several that might be it.
    """
    if patterns(options):
        return _by_pattern(image, options)
    stem = bare(image)
    stems = dict.fromkeys((stem, _CHANNEL.sub("", stem)))
    places = [image.parent.parent / name for name in FOLDERS.get(image.parent.name.lower(), ())]
    beside = {stem + end for stem in stems for end in SUFFIXES}
    found = [p for place in places for p in inside(place) if p.is_file() and bare(p) in {*stems, *beside}]
    if not found:
        found = [p for p in inside(image.parent) if p.is_file() and bare(p) in beside]
    if len(found) > 1:
        names = some([p.name for p in found])
        raise DataError(f"{image.name} has {len(found)} files called like its label ({names}); say which by --labels")
    return found[0] if found else None


def without_labels(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases without those whose one file is called like the label of another one (``a_seg.nii.gz`` beside ``a.nii.gz``), which a
    glob of a folder finds, too."""
    alone = [str(next(iter(item.values()))) if len(item) == 1 else "" for item in items]
    stems = {(Path(file).parent, bare(Path(file))) for file in alone if file}

    def labels_one(file: str) -> bool:
        place, stem = Path(file).parent, bare(Path(file))
        return any(stem.lower().endswith(end) and (place, stem[: -len(end)]) in stems for end in SUFFIXES)

    return [item for item, file in zip(items, alone) if not (file and labels_one(file))]


def _by_pattern(image: Path, options: AuditOptions) -> Path | None:
    folder = Path(options.dataset_dir).expanduser().resolve()
    stems = {bare(image), _CHANNEL.sub("", bare(image))}
    for pattern in patterns(options):
        for stem in stems:
            told = pattern.replace("{case}", _literal(stem)).replace("{patient}", _literal(image.parent.name))
            found = sorted(folder.glob(told.replace("{section}", "*").removeprefix("./")))
            if len(found) > 1:
                names = some([p.name for p in found])
                raise DataError(f"--labels {pattern}: {len(found)} files fit {image.name} ({names}); make it narrower")
            if found:
                return found[0]
    return None


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def listed_pairs(options: AuditOptions) -> Pairs | None:
    """The labelled cases of the folder, by the patterns of the user or by its layout; ``None`` where nothing tells them.

    Raises:
        DataError: patterns that fit nothing, or a layout whose files are incomplete.
    """
    folder = Path(options.dataset_dir).expanduser().resolve()
    images, labels = as_patterns(options.images), patterns(options)
    if images and labels:
        return _pairs(f"--images {', '.join(images)}", listed_by_patterns(folder, images, labels))
    if labels:
        return None
    for name in ("images",) if (folder / "dataset.json").is_file() else ("images", "imagesTs", "imagesTr"):
        if (folder / name).is_dir() and any((folder / other).is_dir() for other in FOLDERS[name.lower()]):
            return _beside(folder / name, options)
    for name in LAYOUTS:
        if DIRECT[name].home(folder) is not None:
            return _pairs(f"the layout of {folder.name} ({DIRECT[name].title})", DIRECT[name].listed(folder))
    return None


def _beside(images: Path, options: AuditOptions) -> Pairs | None:
    """The images of a folder that have their labels in one beside it.

    Raises:
        DataError: a case may have several images, and no ``dataset.json`` says so.
    """
    files = [p for p in inside(images) if p.is_file()]
    if several := [p.name for p in files if _CHANNEL.search(bare(p)) and not bare(p).endswith("_0000")]:
        raise DataError(
            f"{images.name}/{several[0]} is called like a further channel of a case, and no dataset.json says so; put it back, or "
            "say by --images and --labels what belongs together"
        )
    rows = [(_CHANNEL.sub("", bare(p)), p, label_of(p, options)) for p in files]
    made = [Row(stem, stem, (p,), (label,)) for stem, p, label in rows if label is not None]
    return _pairs(f"{images.name}/ with their labels beside", Listed(rows=made)) if made else None


def _pairs(name: str, listed: Listed) -> Pairs:
    if listed.problems or not listed.rows:
        raise DataError("\n  ".join(listed.problems) or f"{name}: no labelled case is there")
    held_out = [row for row in listed.rows if row.section == "test"] or [row for row in listed.rows if row.section.startswith("val")]
    rows = held_out or listed.rows
    notes = [f"the cases are those of {name}: {len(rows)}", *listed.notes]
    return Pairs(name, rows, notes)
