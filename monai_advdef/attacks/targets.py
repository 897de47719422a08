"""What a targeted attack aims at, made from the label and the clean prediction."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from monai_advdef.attacks.clinical import Impossible, clinical, wish
from monai_advdef.errors import nearest
from monai_advdef.types import Logits

TARGETS = {
    "inverted": "lesion and background exchanged (several classes: background and the largest organ of the case)",
    "least_likely": "the class with the lowest logit at the clean image, voxel by voxel",
    "background": "nothing there",
    "permuted": "every class renamed to the next",
    "elsewhere": "the label moved beside itself, less where it still meets itself: it never overlaps the truth",
    "other_case": "the mask of another case; it is handed to run(target=...), the AttackHandler does so",
    "erase": "nothing there, of a case where there is something",
    "invent": "beside the label a ball of the first class (of every mask), 'invent 0.2' as wide as a share of the image's shortest "
    "side or 'invent 12 voxels', where it is farthest from foreground, air and border",
    "shift": "the label moved to where there is room, 'shift 0.5' by a share of its extent or 'shift 12 voxels'",
    "grow": "the label grown at its surface, 'grow 0.5' by half its volume; 'grow -0.3' shrinks it",
}
CLINICAL = ("erase", "invent", "shift", "grow")


def check_target_name(name: str | None) -> None:
    """Raises ``ValueError`` for an unknown target name, with the nearest known one, and for a number that it cannot take."""
    if name is None:
        return
    word = str(name).strip().partition(" ")[0]
    if word not in TARGETS:
        raise ValueError(f"unknown target {name!r}; {nearest(word, TARGETS)}")
    wish(name)


def looks_at_the_clean_image(name: str) -> bool:
    """Whether a target depends on the network's answer to the clean image."""
    return name == "least_likely"


def make_target(name: str, label: Tensor, logits: Logits, head: str, image: Tensor | None = None) -> Tensor:
    """The target called ``name``, encoded like ``label``; a case without one holds -1 throughout, and a warning says why.

    Args:
        name: one of :data:`TARGETS`, with a number where it takes one (``"grow 0.5"``).
        label: (B, 1, \\*S) integers for a softmax head, (B, K, \\*S) zeros and ones for a sigmoid head.
        logits: (B, K, \\*S) at the clean image.
        head: ``"softmax"`` or ``"sigmoid"``.
        image: (B, C, \\*S), so that no lesion is invented outside the body; ``None`` invents it anywhere.

    Raises:
        ValueError: unknown name or number, or ``"other_case"``, whose mask only the caller can know.
    """
    check_target_name(name)
    if name == "other_case":
        raise ValueError("target 'other_case' needs the mask of another case; pass it as run(..., target=mask)")
    if name == "background":
        return torch.zeros_like(label)
    if name == "elsewhere" or wish(name).name in CLINICAL:
        return _case_by_case(name, label, head, image)
    if name == "least_likely":
        return logits.argmin(1, keepdim=True) if head == "softmax" else (logits <= 0).to(label.dtype)
    if head == "sigmoid":
        return 1 - label if name == "inverted" or label.shape[1] == 1 else label.roll(1, dims=1)
    classes = logits.shape[1]
    return _inverted(label, classes) if name == "inverted" else (label + 1) % classes


def _case_by_case(name: str, label: Tensor, head: str, image: Tensor | None) -> Tensor:
    asked, made = wish(name), []
    for i, case in enumerate(label):
        try:
            if name == "elsewhere":
                made.append(_beside(case))
                continue
            grey = None if image is None else image[i].cpu().numpy()
            found = clinical(asked, case.cpu().numpy(), grey, head == "softmax")
            made.append(torch.from_numpy(found).to(case))
        except Impossible as reason:
            warnings.warn(
                f"target {name!r} cannot be made for case {i} of the batch (counted from 0): {reason}. It is not attacked, and no "
                "overlap with a target is reported for it",
                stacklevel=2,
            )
            made.append(torch.full_like(case, -1))
    return torch.stack(made)


def _beside(label: Tensor) -> Tensor:
    """One label (K, \\*S) moved by its own extent along the axis it is shortest on, to the side with more room (cyclically)."""
    foreground = label.ne(0).any(0)
    if not bool(foreground.any()):
        raise Impossible("there is no foreground in it to be elsewhere")
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
