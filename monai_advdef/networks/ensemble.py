"""Several networks as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of the logits of several networks, so of images (B, C, \\*S) logits (B, K, \\*S); of several heads the first counts.

    What MONAI's ``EnsembleEvaluator`` with ``MeanEnsembled`` computes of logits. Where it averages probabilities, or takes a vote,
    predictions differ a little; attacks on one carry over to the others.

    Args:
        networks: of one task, with equally many outputs.

    Raises:
        ValueError: no network; in use, outputs of different shapes.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("networks must name at least one network, got none; give those of the ensemble")
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the logits (B, K, \\*S) for images ``x`` (B, C, \\*S)."""
        outputs = [network(x) for network in self.networks]
        outputs = [out[0] if isinstance(out, (list, tuple)) else out for out in outputs]
        if len({out.shape for out in outputs}) > 1:
            shapes = " and ".join(sorted({str(tuple(out.shape)) for out in outputs}))
            raise ValueError(f"networks return logits of different shapes, {shapes}; an ensemble is made of networks of one task")
        return torch.stack([out.float() for out in outputs]).mean(0)
