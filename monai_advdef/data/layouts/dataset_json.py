"""``dataset.json`` of the Medical Segmentation Decathlon and of nnU-Net (versions 1 and 2): channels, structures, file ending.

Version 1 and the Decathlon write ``{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}``, version 2
``{"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}, "file_ending": ".nii.gz"}``, where a structure may also be
a region, a list of stored values. Source: documentation/dataset_format.md of nnU-Net.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_advdef.data.tasks import TASKS
from monai_advdef.errors import DataError

NO_ABOUT = "has no dataset.json, which says what channels and labels are; put it back, or say it by --images, --masks and --values"


@dataclass(frozen=True)
class About:
    """What a ``dataset.json`` says: names of channels and of stored values, the ending of image files, and all of it as read."""

    path: Path
    channels: tuple[str, ...]
    class_names: Mapping[int, str]
    ending: str
    raw: Mapping[str, Any]


def read_about(root: Path) -> About | None:
    """The ``dataset.json`` of a folder, or None where there is none.

    Raises:
        DataError: a file that is no JSON object, or whose channels or labels cannot be understood.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        channels = raw.get("channel_names", raw.get("modality", {}))
        told = channels.items() if isinstance(channels, dict) else enumerate(channels)
        names = tuple(str(name) for _, name in sorted((int(number), name) for number, name in told))
        return About(path, names, _class_names(raw.get("labels", {})), str(raw.get("file_ending", "")), raw)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be understood ({type(error).__name__}: {error}); it needs channel_names (or modality), number to name, "
            "and labels, name to number or number to name"
        ) from error


def _class_names(labels: Mapping[str, Any]) -> dict[int, str]:
    """The name of each stored value; a value of regions is called by what it is of them."""
    if all(str(key).lstrip("-").isdigit() for key in labels):
        return {int(number): str(name) for number, name in labels.items()}
    plain = {int(value): str(name) for name, value in labels.items() if not isinstance(value, list)}
    regions = {str(name): tuple(map(int, values)) for name, values in labels.items() if isinstance(values, list)}
    for value in sorted({value for values in regions.values() for value in values}):
        within = {name for name, values in regions.items() if value in values}
        plain.setdefault(value, _part(within) or min(within, key=lambda name: len(regions[name])))
    return dict(sorted(plain.items()))


def _part(within: set[str]) -> str:
    """The class of a task of ours that lies in just these of its regions; empty where there is none."""
    told = {_plain(name) for name in within}
    for task in TASKS.values():
        for number, name in enumerate(task.classes):
            if told == {_plain(region) for region, classes in task.regions.items() if number in classes}:
                return name
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]+", " ", name.lower()).replace("tumor", "tumour").strip()
