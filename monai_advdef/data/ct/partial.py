"""Learning from partly annotated volumes: what is not outlined may be background or any organ that nobody outlined."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

__all__ = ["MarginalLoss", "marginal_logits"]

ABSENT = -1e4  # as a logit: a probability of 0 in every floating-point type


def marginal_logits(logits: Tensor, annotated: Tensor) -> Tensor:
    """Logits (B, K, \\*S) whose softmax adds the probabilities of the organs that are not ``annotated`` (B, K) to the background's.

    Source: Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image
    Analysis 2021, equation 3.
    """
    absent = ~annotated.to(logits.device).bool()
    absent[:, 0] = False
    absent = absent.reshape(*absent.shape, *(1,) * (logits.ndim - 2))
    merged = torch.where(absent, logits, ABSENT)
    merged[:, 0] = logits[:, 0]
    rest = torch.where(absent, ABSENT, logits)
    return torch.cat([merged.logsumexp(1, keepdim=True), rest[:, 1:]], dim=1)


class MarginalLoss(nn.Module):
    """A loss of logits (B, K, \\*S) and class maps (B, 1, \\*S) that says nothing of organs nobody outlined.

    Which organs were outlined comes with the label, as :class:`OrganLabelsd` leaves it in its metadata (``annotated``); where the
    label has no such entry every organ counts, and the loss is the one given.

    Args:
        loss: takes logits and class maps, such as MONAI's ``DiceCELoss`` with ``softmax`` and ``to_onehot_y``.
    """

    def __init__(self, *, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss of logits (B, K, \\*S) and labels (B, 1, \\*S), over the classes that each case's ``annotated`` metadata name."""
        annotated = label.meta.get("annotated") if isinstance(label, MetaTensor) else None
        if annotated is not None:
            annotated = torch.as_tensor(annotated).reshape(-1, logits.shape[1])
            if not bool(annotated.all()):
                logits = marginal_logits(logits, annotated)
        return self.loss(logits, label)
