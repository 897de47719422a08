"""What an attack raises: per-case losses on logits, larger = worse for the model (or, targeted, nearer to the target).

Every objective has the signature ``(logits (B, K, *S), label, targeted=False) -> (B,)`` in two families: ``softmax`` heads take
a class map (B, 1, *S) of integers, ``sigmoid`` heads a multi-label mask (B, K, *S) of zeros and ones. No value depends on the other
cases of the batch. Two-dimensional images and volumes are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_advdef.errors import nearest
from monai_advdef.types import Logits, PerCase

Objective = Callable[..., Tensor]  # (logits, label, targeted=False) -> (B,)


def _pixel_cross_entropy(logits: Logits, label: Tensor, head: str) -> Tensor:
    """(B, \\*S) for softmax, (B, K, \\*S) for sigmoid."""
    if head == "softmax":
        return F.cross_entropy(logits, label[:, 0], reduction="none")
    return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction="none")


def _pixel_margin(logits: Logits, label: Tensor, head: str) -> Tensor:
    """Logit of the labelled answer minus the best other answer: positive where the pixel still agrees with the label."""
    if head == "sigmoid":
        return torch.where(label.bool(), logits, -logits)
    own = logits.gather(1, label)
    other = logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
    return (own - other)[:, 0]


def cross_entropy(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Mean cross-entropy over the pixels; targeted: its negative."""
    value = _pixel_cross_entropy(logits, label, head).flatten(1).mean(1)
    return -value if targeted else value


def masked_cross_entropy(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Cross-entropy over the pixels not yet won (still correct; targeted: not yet at the target), divided by all pixels.

    Source: Croce et al., "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024.
    """
    agrees = _pixel_margin(logits.detach(), label, head) > 0
    value = (_pixel_cross_entropy(logits, label, head) * (agrees ^ targeted)).flatten(1).mean(1)
    return -value if targeted else value


def margin(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Mean logit margin of the pixels not yet won; 0 when every pixel is. Unlike cross-entropy it does not saturate.

    Source: Carlini & Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, objective f6 with kappa = 0.
    """
    pixels = _pixel_margin(logits, label, head)
    return (pixels.clamp_max(0) if targeted else -pixels.clamp_min(0)).flatten(1).mean(1)


def dice(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """1 minus soft Dice, averaged over the foreground classes of each case alone (never over the batch)."""
    if head == "softmax":
        soft = logits.softmax(1)[:, 1:].flatten(2)
        mask = F.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(soft.dtype)
    else:
        soft, mask = logits.sigmoid().flatten(2), label.flatten(2).to(logits.dtype)
    overlap = (2 * (soft * mask).sum(2) + 1e-5) / (soft.sum(2) + mask.sum(2) + 1e-5)
    value = 1 - overlap.mean(1)
    return -value if targeted else value


def dice_ce(logits: Logits, label: Tensor, targeted: bool = False, *, head: str = "softmax") -> PerCase:
    """Soft Dice loss plus cross-entropy."""
    return dice(logits, label, targeted, head=head) + cross_entropy(logits, label, targeted, head=head)


OBJECTIVES: dict[str, Objective] = {f.__name__: f for f in (cross_entropy, dice, dice_ce, margin, masked_cross_entropy)}


def objective(name: str, head: str = "softmax") -> Objective:
    """The objective called ``name`` for a ``"softmax"`` or ``"sigmoid"`` head.

    Raises:
        ValueError: unknown name, with the nearest known one.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; {nearest(str(name), OBJECTIVES)}")
    return partial(OBJECTIVES[name], head=head)
