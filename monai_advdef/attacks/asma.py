"""Adaptive segmentation mask attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.metrics import class_map, counts, iou
from monai_advdef.types import Images, PerCase


@dataclass(frozen=True, kw_only=True)
class ASMA(Attack):
    """Raise the target class's output wherever the prediction is not yet the target, with a step that grows with success.

    ``x <- x + (beta * IoU + tau) * d/dx [sum_c 1{target = c} 1{prediction != c} g_c(x) - l2_weight * |x - x0|^2]``, on images scaled
    to [0, 1] by the threat's value range (so tau and beta are the paper's for any unit). The multiplier and the sums are per case.
    IoU is measured on the iterate that the gradient is taken at (one forward and one backward per step), 0 at the first; both masks
    empty counts as 1.

    Args:
        steps, tau, beta, l2_weight: as in the paper's code; ``l2_weight=0`` is the paper's equation to the letter.
        output: ``"logits"``, or ``"probability"`` (the Frequency Refinement paper's variant).
        keep: ``"best"``: highest IoU to the target (with ``iou_goal`` below 1: the smallest change that reaches it); ``"last"``:
            as the papers' code.

    Source: Ozbulak et al., "Impact of Adversarial Examples on Deep Learning Models for Biomedical Image Segmentation", MICCAI 2019,
    equation 1.
    """

    target: str | None = "other_case"
    steps: int = 1000
    tau: float = 1e-7
    beta: float = 1e-6
    l2_weight: float = 1.0
    output: str = "logits"
    iou_goal: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output not in ("logits", "probability"):
            raise ValueError(f"output must be 'logits' or 'probability', got {self.output!r}")
        if self.tau < 0 or self.beta < 0 or self.tau + self.beta == 0:
            raise ValueError(f"tau and beta must be ≥ 0 and not both 0, got {self.tau} and {self.beta}")
        if not 0 < self.iou_goal <= 1:
            raise ValueError(f"iou_goal must lie in (0, 1], got {self.iou_goal}")

    @property
    def label(self) -> str:
        """``ASMA``, with its target where it is not the mask of another case."""
        return "ASMA" if self.target == "other_case" else f"ASMA to {self.target}"

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """Sum of the outputs for the wanted class over the pixels that are not yet of it, (B,).

        Source: Ozbulak et al. 2019, the adaptive segmentation mask attack.
        """
        if head == "softmax":
            out = logits if self.output == "logits" else logits.softmax(1)
            wrong = class_map(logits.detach()) != aim
            return (out.gather(1, aim) * wrong).flatten(1).sum(1)
        out = logits if self.output == "logits" else logits.sigmoid()
        wrong = (logits.detach() > 0) != aim.bool()
        return (torch.where(aim.bool(), out, -out) * wrong).flatten(1).sum(1)

    def multiplier(self, at: Iterate) -> PerCase:
        """beta * IoU + tau per case."""
        if at.number == 0:
            return torch.full((len(at.x),), self.tau, device=at.x.device)
        return self.beta * _iou(at) + self.tau

    def step(self, at: Iterate) -> Images:
        """Along the gradient of loss and squared distance to the image, by the multiplier of the case."""
        width, shape = at.ball.width, (-1,) + (1,) * (at.x.ndim - 1)
        ascent = at.gradient * width**2 - 2 * self.l2_weight * (at.x - at.ball.image)  # both in image units: width * d/d(x / width)
        return at.x + self.multiplier(at).reshape(shape) * ascent

    def rank(self, at: Iterate, score: PerCase) -> PerCase:
        """IoU to the target, (B,); above ``iou_goal`` what counts is how small the change is."""
        overlap = _iou(at)
        change = torch.linalg.vector_norm(((at.x - at.ball.image) / at.ball.width).flatten(1), dim=1)
        return torch.where(overlap >= self.iou_goal, 1 + 1 / (1 + change), overlap)


def _iou(at: Iterate) -> PerCase:
    """IoU of prediction and target, mean over the foreground classes."""
    return iou(*counts(at.victim.predict(at.logits), at.aim, at.victim.classes(at.logits))).mean(1)
