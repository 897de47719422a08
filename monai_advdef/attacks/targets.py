"""What a targeted attack aims at, made from the label and the clean prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.data.errors import nearest
from monai_advdef.types import Logits

TARGETS = {
    "inverted": "lesion and background exchanged (several classes: background and the largest organ of the case)",
    "least_likely": "the class with the lowest logit at the clean image, voxel by voxel",
    "background": "nothing there",
    "permuted": "every class renamed to the next",
    "elsewhere": "the label moved by half the image along every axis, less where it meets the truth: it never overlaps it",
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
        axes = tuple(range(2, label.ndim))
        return label.roll([n // 2 for n in label.shape[2:]], axes) * (label == 0).all(1, keepdim=True).to(label.dtype)
    if name == "least_likely":
        return logits.argmin(1, keepdim=True) if head == "softmax" else (logits <= 0).to(label.dtype)
    if head == "sigmoid":
        return 1 - label if name == "inverted" or label.shape[1] == 1 else label.roll(1, dims=1)
    classes = logits.shape[1]
    return _inverted(label, classes) if name == "inverted" else (label + 1) % classes


def _inverted(label: Tensor, classes: int) -> Tensor:
    if classes == 2:
        return 1 - label
    sizes = torch.stack([(label == k).flatten(1).sum(1) for k in range(1, classes)], dim=1)
    largest = (sizes.argmax(1) + 1).reshape((-1,) + (1,) * (label.ndim - 1))
    return torch.where(label == 0, largest, torch.zeros_like(label))
