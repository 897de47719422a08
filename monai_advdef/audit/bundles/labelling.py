"""Labels for a chain that was made for images alone: each transform that loads or moves the image, once more for the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage

from monai_advdef.audit.bundles.chain import keys_of, parts, put_parts, target, twin
from monai_advdef.audit.bundles.config import Config
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError, reading

FEW = 256  # values of a label beyond which they are no classes


def label_too(config: Config, transform: str, image: str, label: str, cases: list[dict[str, Any]], channels: int) -> list[str]:
    """Let a chain bring the label onto the network's grid, where it loads the image alone; returns what is to be told.

    Raises:
        DataError: its transforms cannot be told one by one, or a label file holds other values than class numbers.
    """
    items = parts(config, transform)
    if items is not None and any(label in _touched(config, item) for item in items):
        return []
    if items is None or not any(target(item).startswith("LoadImage") for item in items):
        raise DataError(
            f"{config.source(transform)}: its preprocessing is for images alone, and how a label would follow is not told; "
            "audit it with --labels none, or add the label to its keys"
        )
    first = cases[0][label]
    values, axes = _values(str(first[0] if isinstance(first, list) else first))
    mapped = [] if isinstance(first, list) else _mapping(values, channels, label, str(first))
    made: list[dict[str, Any]] = []
    for item in items:
        twins = twin(config, item, image, label, axes)
        made += [twins] if twins is not None else []
        if twins is not None and target(item).startswith("EnsureChannelFirst"):
            made += mapped
        made.append(item)
    put_parts(config, transform, made)
    followed = [target(item) for item in items if twin(config, item, image, label, axes) is not None]
    notes = [f"the preprocessing is for images alone; the label goes through the same {', '.join(followed)}, by the nearest voxel"]
    return notes + ([f"labels hold {some(values.tolist())}: half of the largest and more is the foreground"] if mapped else [])


def _touched(config: Config, item: dict[str, Any]) -> list[str]:
    return [*keys_of(config, item), *map(str, (item.get("label"), item.get("label_key"), item.get("overwrite")))]


def _values(path: str) -> tuple[np.ndarray, int]:
    """The values of a label file and the number of its axes."""
    with reading(path):
        array = np.asarray(LoadImage(image_only=True)(Path(path)))
    return np.unique(array), array.ndim


def _mapping(values: np.ndarray, channels: int, label: str, path: str) -> list[dict[str, Any]]:
    """What makes class numbers of the stored values; nothing where they are."""
    top = float(values.max()) if len(values) else 0.0
    if top < max(channels, 2) and bool((values == values.round()).all()):
        return []
    if channels <= 2 and len(values) <= FEW and float(values.min()) >= 0:  # drawn in white, or so and through JPEG
        return [{"_target_": "AsDiscreted", "keys": label, "threshold": top / 2}]
    raise DataError(
        f"{path} holds the values {some(values.tolist())}, the network has {channels} channels; store the numbers of its classes, "
        f"0..{channels - 1}"
    )
