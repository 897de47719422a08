"""The boxes that ``CropForeground`` cuts out of an image by its values: as they were cut, and as they are told."""

from __future__ import annotations

from typing import Any

import numpy as np

Box = tuple[np.ndarray, np.ndarray]  # first voxel of a crop and the one behind its last, (D,) each


def boxes_of(fed: Any) -> list[Box]:
    """The boxes that ``CropForeground`` cut, in their order, as the network's input remembers them; they may reach outside."""
    boxes = []
    for done in getattr(fed, "applied_operations", ()):
        if done.get("class") != "CropForeground":
            continue
        extra, size = done["extra_info"], np.asarray(done["orig_size"])
        cropped = np.asarray(extra["cropped"]).reshape(-1, 2)
        padded = np.asarray(extra["pad_info"]["extra_info"]["padded"])[1:]
        boxes.append((cropped[:, 0] - padded[:, 0], size - cropped[:, 1] + padded[:, 1]))
    return boxes


def same(a: Box | None, b: Box | None) -> bool:
    """Whether two boxes cut the same voxels."""
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]))


def told(box: Box | None) -> str:
    """A box as slices, in words."""
    return "nothing" if box is None else "[" + ", ".join(f"{a}:{b}" for a, b in zip(*box)) + "]"
