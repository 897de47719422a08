"""Networks whose outputs hide their gradient."""

from __future__ import annotations

from torch import Tensor, nn


class ScaledLogits(nn.Module):
    """The same decisions with logits so large that cross-entropy saturates: its gradient is exactly 0 wherever the network is right.

    Source: Carlini & Wagner, "Defensive Distillation is Not Robust to Adversarial Examples", 2016.
    """

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.network(x)


class Detached(nn.Module):
    """A network that cuts the graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).detach()
