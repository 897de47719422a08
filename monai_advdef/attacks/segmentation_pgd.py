"""PGD whose cross-entropy weighs every pixel by whether, or how far, it still agrees with the label: SegPGD and CosPGD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import USUAL
from monai_advdef.attacks.gradient import PGD
from monai_advdef.objectives import pixel_cross_entropy, pixel_margin, require_classes
from monai_advdef.types import Logits, PerCase


@dataclass(frozen=True, kw_only=True)
class _Weighted(PGD):
    """PGD on the mean over the pixels of weight times cross-entropy; no gradient flows through the weights."""

    objective: str = USUAL
    momentum: float | None = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective != USUAL:
            raise ValueError(
                f"{type(self).__name__} weighs the cross-entropy of pixels, so its objective must be '{USUAL}', got "
                f"{self.objective!r}; to raise another one take PGD or AutoPGD"
            )

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """Mean over the pixels (and the channels of a sigmoid head) of weight times cross-entropy, (B,); targeted: its negative."""
        require_classes(logits, head)
        weight = self.weight(logits.detach(), aim, targeted, head, done)
        value = (weight * pixel_cross_entropy(logits, aim, head)).flatten(1).mean(1)
        return -value if targeted else value

    def weight(self, logits: Logits, aim: Tensor, targeted: bool, head: str, done: float) -> Tensor:
        """The weight of every pixel: (B, \\*S) for a softmax head, (B, K, \\*S) for a sigmoid head."""
        raise TypeError(f"{type(self).__name__} weighs no pixel")


@dataclass(frozen=True, kw_only=True)
class SegPGD(_Weighted):
    """PGD that raises the cross-entropy of pixels still right by 1 - lambda, of wrong ones by lambda = k / (2 N) at step k = 0..N-1.

    It begins with the pixels that are still right alone, and ends with plain cross-entropy. Targeted, pixels that are not yet at the
    target have the weight 1 - lambda. In a sigmoid head every channel counts as a pixel of its own.

    Args:
        schedule: see :class:`PGD`. The paper's steps all have one length: ``step_size`` 0.01 of images in [0, 1].

    Raises:
        ValueError: an objective other than cross-entropy, which is what is weighted; see also :class:`PGD`.

    Source: Gu et al., "SegPGD: An Effective and Efficient Adversarial Attack for Evaluating and Boosting Segmentation Robustness",
    ECCV 2022, equation 4 and algorithm 1.
    """

    def weight(self, logits: Logits, aim: Tensor, targeted: bool, head: str, done: float) -> Tensor:
        """1 - done / 2 where there is still something to win, done / 2 elsewhere."""
        still = (pixel_margin(logits, aim, head) > 0) ^ targeted
        return torch.where(still, 1 - done / 2, done / 2).to(logits)


@dataclass(frozen=True, kw_only=True)
class CosPGD(_Weighted):
    """PGD that weighs the cross-entropy of every pixel by the cosine between its probabilities and the one-hot label.

    Targeted, the weight is 1 minus the cosine to the target. In a sigmoid head the channels are distributions (p, 1 - p) of their
    own and the cosine is that to (1, 0) or (0, 1): the paper's rule for two classes, where a cosine over the channels would give
    background no weight at all.

    Args:
        schedule: see :class:`PGD`. The published code's steps all have one length: ``step_size`` 0.01 of images in [0, 1].

    Raises:
        ValueError: an objective other than cross-entropy, which is what is weighted; see also :class:`PGD`.

    Source: Agnihotri et al., "CosPGD: an efficient white-box adversarial attack for pixel-wise prediction tasks", 2023, equations
    3 to 5.
    """

    def weight(self, logits: Logits, aim: Tensor, targeted: bool, head: str, done: float) -> Tensor:
        """The cosine of each pixel's probabilities to its label; targeted 1 minus that to its target."""
        if head == "softmax":
            p = logits.softmax(1)
            cosine = (p.gather(1, aim) / p.norm(dim=1, keepdim=True))[:, 0]
        else:
            right = torch.where(aim.bool(), logits, -logits).sigmoid()
            cosine = right / torch.hypot(right, 1 - right)
        return 1 - cosine if targeted else cosine
