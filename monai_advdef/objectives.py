"""What an attack raises: per-case losses on logits, larger = worse for the model (or, targeted, nearer to the target).

Every objective has the signature ``(logits (B, K, *S), label, targeted=False) -> (B,)`` in two families: ``softmax`` heads take
a class map (B, 1, *S) of integers, ``sigmoid`` heads a multi-label mask (B, K, *S) of zeros and ones. No value depends on the other
cases of the batch. Two-dimensional images and volumes are alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_advdef.errors import nearest
from monai_advdef.types import Logits, PerCase

HEADS = ("softmax", "sigmoid")
Objective = Callable[..., Tensor]  # (logits, label, targeted=False) -> (B,)


def pixel_cross_entropy(logits: Logits, label: Tensor, head: str) -> Tensor:
    """(B, \\*S) for softmax, (B, K, \\*S) for sigmoid."""
    if head == "softmax":
        return F.cross_entropy(logits, label[:, 0], reduction="none")
    return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction="none")


def pixel_margin(logits: Logits, label: Tensor, head: str) -> Tensor:
    """Logit of the labelled answer minus the best other answer: positive where the pixel still agrees with the label."""
    if head == "sigmoid":
        return torch.where(label.bool(), logits, -logits)
    own = logits.gather(1, label)
    other = logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
    return (own - other)[:, 0]


def cross_entropy(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Mean cross-entropy over the pixels; targeted: its negative."""
    value = pixel_cross_entropy(logits, label, head).flatten(1).mean(1)
    return -value if targeted else value


def masked_cross_entropy(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Cross-entropy over the pixels not yet won (still correct; targeted: not yet at the target), divided by all pixels.

    Source: Croce et al., "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024.
    """
    agrees = pixel_margin(logits.detach(), label, head) > 0
    value = (pixel_cross_entropy(logits, label, head) * (agrees ^ targeted)).flatten(1).mean(1)
    return -value if targeted else value


def margin(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Mean logit margin of the pixels not yet won; 0 when every pixel is. Unlike cross-entropy it does not saturate.

    Source: Carlini & Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, objective f6 with kappa = 0.
    """
    pixels = pixel_margin(logits, label, head)
    return (pixels.clamp_max(0) if targeted else -pixels.clamp_min(0)).flatten(1).mean(1)


def balanced_cross_entropy(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Cross-entropy over the pixels not yet won, each class divided by its pixels in the label; the mean over the classes there are.

    A lesion of a hundred pixels weighs as much as the background around it. In a sigmoid head every channel has two classes, in it
    and not in it, and the mean is over the channels too.

    Source: Croce et al., "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024.
    """
    still = (pixel_margin(logits.detach(), label, head) > 0) ^ targeted
    lost = pixel_cross_entropy(logits, label, head) * still
    if head == "softmax":
        lost, answer, classes = lost.flatten(1)[:, None], label.long().flatten(2), logits.shape[1]
    else:
        lost, answer, classes = lost.flatten(2), label.long().flatten(2), 2
    size = lost.new_zeros(*lost.shape[:2], classes).scatter_add_(2, answer, torch.ones_like(lost))
    share = 1 / (size.clamp_min(1) * (size > 0).sum(2, keepdim=True))
    value = (lost * share.gather(2, answer)).sum(2).mean(1)
    return -value if targeted else value


def jensen_shannon(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Jensen-Shannon divergence in nats of each pixel's probabilities from its label, mean over the pixels: between 0 and log 2.

    Of a distribution p and a certain answer that p gives the probability q it is ``log 2 + (q log q - (1 + q) log(1 + q)) / 2``:
    pixels that are wrong beyond doubt stop pulling. In a sigmoid head every channel is a distribution of two answers.

    Source: Croce et al., "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024.
    """
    log = -pixel_cross_entropy(logits, label, head)
    q = log.exp()
    value = math.log(2) + ((q * log - (1 + q) * q.log1p()) / 2).flatten(1).mean(1)
    return -value if targeted else value


def _overlap(logits: Logits, label: Tensor, head: str) -> tuple[Tensor, Tensor, Tensor]:
    """Soft intersection, predicted and labelled size together, and what is added to both, of every foreground class: each (B, K').

    To a class that the case lacks one voxel is added: the overlap 1 / (1 + size) then falls to a half with the first voxel of it, as
    the reported one falls from 1 to 0. By a small number it would have fallen long before the prediction holds any.
    """
    if head == "softmax":
        soft = logits.softmax(1)[:, 1:].flatten(2)
        classes = torch.arange(1, logits.shape[1], device=label.device)[:, None]
        mask = (label.flatten(2) == classes).to(soft.dtype)
    else:
        soft, mask = logits.sigmoid().flatten(2), label.flatten(2).to(logits.dtype)
    labelled = mask.sum(2)
    return (soft * mask).sum(2), soft.sum(2) + labelled, torch.where(labelled > 0, 1e-5, 1.0).to(soft.dtype)


def dice(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """1 minus soft Dice, averaged over the foreground classes of each case alone (never over the batch)."""
    both, total, more = _overlap(logits, label, head)
    value = 1 - ((2 * both + more) / (total + more)).mean(1)
    return -value if targeted else value


def jaccard(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """1 minus soft IoU, averaged over the foreground classes of each case alone."""
    both, total, more = _overlap(logits, label, head)
    value = 1 - ((both + more) / (total - both + more)).mean(1)
    return -value if targeted else value


def dice_ce(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Soft Dice loss plus cross-entropy."""
    return dice(logits, label, targeted, head=head) + cross_entropy(logits, label, targeted, head=head)


OBJECTIVES: dict[str, Objective] = {
    f.__name__: f
    for f in (
        cross_entropy,
        dice,
        dice_ce,
        jaccard,
        jensen_shannon,
        margin,
        masked_cross_entropy,
        balanced_cross_entropy,
    )
}
SURROGATES = {"dice": "dice", "iou": "jaccard"}  # the objective that stands for a reported metric


def objective(name: str, head: str = "softmax") -> Objective:
    """The objective called ``name`` for a ``"softmax"`` or ``"sigmoid"`` head.

    Raises:
        ValueError: unknown name or head, with the nearest known one; in use, logits of one channel for a softmax head.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; {nearest(str(name), OBJECTIVES)}")
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; {nearest(str(head), HEADS)}")

    def of_head(logits: Logits, label: Tensor, targeted: bool = False) -> PerCase:
        require_classes(logits, head)
        return OBJECTIVES[name](logits, label, targeted, head=head)

    return of_head


def surrogate_of(metric: str) -> str:
    """Name of the objective that stands for a reported metric: soft Dice for ``dice``, soft IoU for ``iou``.

    Raises:
        ValueError: a metric that no objective stands for.
    """
    if metric not in SURROGATES:
        raise ValueError(f"no objective stands for the metric {metric!r}; {nearest(str(metric), SURROGATES)}")
    return SURROGATES[metric]


def require_classes(logits: Logits, head: str) -> None:
    """Raises ``ValueError`` for a softmax over a single channel: its answer is always 1, and nothing can raise a loss of it."""
    if head == "softmax" and logits.shape[1] == 1:
        raise ValueError("the network has one output channel, which softmax cannot use; set activation to 'sigmoid'")
