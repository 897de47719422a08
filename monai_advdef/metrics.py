"""Overlap of a prediction with a mask, per case and class. Policy for empty masks: both empty = 1, only one empty = 0."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.types import PerCase


def class_map(scores: Tensor) -> Tensor:
    """The class with the highest score, (B, K, \\*S) -> (B, 1, \\*S); the lowest of equals.

    ``argmax`` says the same, but over the channels it is over ten times slower than ``max`` on a CPU, and that than a comparison.
    """
    if scores.shape[1] == 2:
        return (scores[:, 1:] > scores[:, :1]).long()
    return scores.max(1, keepdim=True).indices


def masks_to_classes(masks: Tensor, name: str = "label") -> Tensor:
    """A mask of zeros and ones per class, (B, K, \\*S), as class map (B, 1, \\*S); a voxel without any class is background, class 0.

    Raises:
        ValueError: masks that overlap: a class map holds one class per voxel.
    """
    claimed = masks.sum(1, keepdim=True) > 1
    if bool(claimed.any()):
        case = int(claimed.flatten(1).any(1).nonzero()[0])
        together = (masks.bool() & claimed)[case].flatten(1)
        classes = together.any(1).nonzero().flatten().tolist()
        raise ValueError(
            f"{name} has masks that overlap: the classes {', '.join(map(str, classes))} share {int(claimed[case].sum())} voxels of "
            f"case {case} of the batch, but a softmax head gives every voxel one class; give a class map (or masks that do not "
            "overlap), or a network with a channel per mask and activation 'sigmoid'"
        )
    return class_map(masks)


def encode_label(label: Tensor, logits: Tensor, *, softmax: bool, name: str = "label") -> Tensor:
    """See :meth:`monai_advdef.Victim.encode`."""
    k = logits.shape[1]
    if softmax and k == 1:
        raise ValueError("the network has one output channel, which softmax cannot use; set activation to 'sigmoid'")
    if label.ndim != logits.ndim or label.shape[0] != logits.shape[0] or label.shape[2:] != logits.shape[2:]:
        raise ValueError(
            f"{name} has shape {tuple(label.shape)}, the logits {tuple(logits.shape)}; cases and sizes must agree: give (B, 1, *S), "
            "a class map, or (B, K, *S), a mask per class, on the grid of the image"
        )
    label = label.to(logits.device)
    if label.is_floating_point() and not bool((label == label.round()).all()):
        raise ValueError(f"{name} holds values that are not whole numbers; give class indices or zeros and ones")
    if label.shape[1] == k:
        if float(label.min()) < 0 or float(label.max()) > 1:
            raise ValueError(
                f"{name} has {k} channels and values in [{label.min():g}, {label.max():g}]; a mask per class holds 0 and 1"
            )
        return masks_to_classes(label, name) if softmax else label.float()
    if not softmax or label.shape[1] != 1:
        raise ValueError(f"{name} has {label.shape[1]} channels, the network {k}; give one mask per output channel")
    if float(label.min()) < 0 or float(label.max()) >= k:
        raise ValueError(
            f"{name} holds class {int(label.max() if label.max() >= k else label.min())}, the network knows 0..{k - 1}; "
            "map the labels (a value to be ignored too), or check the network's number of output channels"
        )
    return label.long()


def counts(prediction: Tensor, label: Tensor, classes: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """True positives, predicted and labelled voxels, each (B, K').

    Args:
        prediction, label: class maps (B, 1, \\*S) with ``classes`` given (the background, class 0, is left out: K' = classes - 1),
            or multi-label masks (B, K, \\*S) with ``classes=None`` (K' = K).
    """
    if classes is None:
        p, t = prediction.bool().flatten(2), label.bool().flatten(2)
        return (p & t).sum(2), p.sum(2), t.sum(2)
    return compared(prediction, label, classes) if label.is_cuda else tabled(prediction, label, classes)


def compared(prediction: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`counts` of class maps, class by class: on a GPU the few bins of a table make its additions wait for one another."""
    found = [counts(prediction == k, label == k) for k in range(1, classes)]
    return tuple(torch.cat(part, 1) for part in zip(*found))  # type: ignore[return-value]


def tabled(prediction: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`counts` of class maps, from the table of both: one pass over the voxels, whatever the number of classes."""
    cases = len(label)
    offset = torch.arange(cases, device=label.device).mul_(classes * classes).reshape((-1,) + (1,) * (label.ndim - 1))
    codes = label.long().mul(classes).add_(prediction.long()).add_(offset)
    table = torch.bincount(codes.flatten(), minlength=cases * classes * classes).reshape(cases, classes, classes)
    return table.diagonal(dim1=1, dim2=2)[:, 1:], table.sum(1)[:, 1:], table.sum(2)[:, 1:]


def dice(tp: Tensor, predicted: Tensor, labelled: Tensor) -> Tensor:
    """2 TP / (predicted + labelled); 1 where both are empty."""
    total = predicted + labelled
    return torch.where(total == 0, 1.0, 2 * tp.double() / total.clamp_min(1)).float()


def iou(tp: Tensor, predicted: Tensor, labelled: Tensor) -> Tensor:
    """TP / (predicted + labelled - TP); 1 where both are empty."""
    union = predicted + labelled - tp
    return torch.where(union == 0, 1.0, tp.double() / union.clamp_min(1)).float()


def mean_dice(prediction: Tensor, label: Tensor, classes: int | None = None) -> PerCase:
    """Dice averaged over the foreground classes, per case."""
    return dice(*counts(prediction, label, classes)).mean(1)
