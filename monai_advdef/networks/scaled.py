"""Logits times a constant: the same predictions, other gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ScaledLogits(nn.Module):
    """``factor * network(x)``, for every head of a network that has several: images (B, C, \\*S) to logits (B, K, \\*S).

    Args:
        network: any segmentation network.
        factor: positive. Kept as a buffer, so a checkpoint carries it.

    Raises:
        ValueError: ``factor`` is not positive.
    """

    def __init__(self, network: nn.Module, *, factor: float) -> None:
        super().__init__()
        if not factor > 0:
            raise ValueError(f"factor must be > 0, got {factor}; 1 leaves the logits as they are")
        self.network = network
        self.factor = nn.Buffer(torch.tensor(float(factor)))

    def forward(self, x: Tensor) -> Any:
        """The network's logits, of all heads where it answers a list, times ``factor``."""
        out = self.network(x)
        return [self.factor * head for head in out] if isinstance(out, (list, tuple)) else self.factor * out

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """The scaled logits of all heads, the deployed one first, each ``(B, K, *S)``."""
        return [self.factor * head for head in self.network.forward_heads(x)]  # type: ignore[operator]
