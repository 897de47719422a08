"""Predictions and labels in one form: the class map of a softmax head, a mask per class of a sigmoid one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_advdef.handlers.cell import label_map, masks_of
from monai_advdef.metrics import masks_to_classes

BACKGROUND = ("background", "bg", "bck", "everything else", "other", "others", "none", "bkg")  # names of the first channel


def is_background(name: str) -> bool:
    """Whether a channel is called like a background."""
    return name.strip().lower() in BACKGROUND


def background_first(classes: Sequence[str], activation: str) -> bool:
    """Whether the first mask of a sigmoid head is the background, which is attacked with the others, and not scored."""
    return activation == "sigmoid" and len(classes) > 1 and is_background(classes[0])


def settled(x: Tensor, classes: Sequence[str], activation: str, name: str, *, hard: bool = False) -> Tensor:
    """Masks or scores in one form, on the CPU: a class map (1, \\*S) (softmax), a mask per class (K, \\*S) (sigmoid).

    Args:
        x: class map, one-hot with or without the background, scores with it; or of a sigmoid head masks or probabilities.
        classes: names of the foreground classes.
        activation: ``"softmax"`` or ``"sigmoid"``.
        name: what an error calls it.
        hard: refuse scores.

    Raises:
        ValueError: another number of channels, values that are no classes.
    """
    n, x = len(classes), torch.as_tensor(x).as_subclass(Tensor).detach().cpu()
    small = torch.uint8 if n < 255 else torch.int16
    if activation == "sigmoid":
        if hard and len(x) == 1 < n:
            x = masks_of_map(x, classes, name)
        if len(x) != n:
            raise ValueError(f"{name} has {len(x)} channels for {n} classes that may overlap ({', '.join(classes)}); give one each")
        return masks_of(x, name).to(small) if hard else (x >= 0.5).to(small)
    if len(x) == n > 1:  # without the background
        return masks_to_classes(torch.cat([torch.zeros_like(x[:1]), masks_of(x, name)])[None], name)[0].to(small)
    return label_map(x, name, n + 1, hard=hard or decided(x))[None].to(small)


def masks_of_map(x: Tensor, classes: Sequence[str], name: str = "the label") -> Tensor:
    """Of a class map (1, \\*S) the masks (K, \\*S) that a sigmoid head of these classes is compared with, no two of which overlap.

    Raises:
        ValueError: values that are no classes.
    """
    first = 0 if background_first(classes, "sigmoid") else 1
    found = label_map(x, name, len(classes) + first)
    return torch.stack([found == k for k in range(first, len(classes) + first)]).to(torch.uint8)


def decided(x: Tensor) -> bool:
    """Whether these are masks, or a class map, and no scores."""
    return bool((x == x.round()).all()) if len(x) == 1 else bool(((x == 0) | (x == 1)).all())
