"""What a targeted attack aims at, made from the label and the clean prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.errors import nearest
from monai_advdef.types import Logits

TARGETS = {
    "inverted": "lesion and background exchanged (several classes: background and the largest organ of the case)",
    "least_likely": "the class with the lowest logit at the clean image, voxel by voxel",
    "background": "nothing there",
    "permuted": "every class renamed to the next",
    "elsewhere": "the label moved beside itself, less where it still meets itself: it never overlaps the truth",
    "other_case": "the mask of another case; it is handed to run(target=...), the AttackHandler does so",
}


def check_target_name(name: str | None) -> None:
    """Raises ``ValueError`` for an unknown target name, with the nearest known one."""
    if name is None or name in TARGETS:
        return
    raise ValueError(f"unknown target {name!r}; {nearest(str(name), TARGETS)}")


def make_target(name: str, label: Tensor, logits: Logits, head: str) -> Tensor:
    """The target called ``name``, encoded like ``label``.

    Args:
        name: one of :data:`TARGETS`.
        label: (B, 1, \\*S) integers for a softmax head, (B, K, \\*S) zeros and ones for a sigmoid head.
        logits: (B, K, \\*S) at the clean image.
        head: ``"softmax"`` or ``"sigmoid"``.

    Raises:
        ValueError: unknown name, or ``"other_case"``, whose mask only the caller can know.
    """
    check_target_name(name)
    if name == "other_case":
        raise ValueError("target 'other_case' needs the mask of another case; pass it as run(..., target=mask)")
    if name == "background":
        return torch.zeros_like(label)
    if name == "elsewhere":
        return torch.stack([_beside(case) for case in label])
    if name == "least_likely":
        return logits.argmin(1, keepdim=True) if head == "softmax" else (logits <= 0).to(label.dtype)
    if head == "sigmoid":
        return 1 - label if name == "inverted" or label.shape[1] == 1 else label.roll(1, dims=1)
    classes = logits.shape[1]
    return _inverted(label, classes) if name == "inverted" else (label + 1) % classes


def _beside(label: Tensor) -> Tensor:
    """One label (K, \\*S) moved by its own extent along the axis it is shortest on, to the side with more room (cyclically)."""
    foreground = label.ne(0).any(0)
    if not bool(foreground.any()):
        return label.clone()
    where = foreground.nonzero()
    first, last = where.amin(0).tolist(), where.amax(0).tolist()
    axis = min(range(foreground.ndim), key=lambda a: (last[a] - first[a] + 1) / foreground.shape[a])
    extent, after = last[axis] - first[axis] + 1, foreground.shape[axis] - 1 - last[axis]
    moved = label.roll(extent if after >= first[axis] else -extent, axis + 1)
    return moved * ~foreground


def _inverted(label: Tensor, classes: int) -> Tensor:
    if classes == 2:
        return 1 - label
    sizes = torch.stack([(label == k).flatten(1).sum(1) for k in range(1, classes)], dim=1)
    largest = (sizes.argmax(1) + 1).reshape((-1,) + (1,) * (label.ndim - 1))
    return torch.where(label == 0, largest, torch.zeros_like(label))
