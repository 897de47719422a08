"""A 2D network on the slices of a volume."""

from __future__ import annotations

from torch import Tensor, nn


class Slicewise(nn.Module):
    """Volumes ``(B, C, H, W, D)`` to logits ``(B, K, H, W, D)``, each of the D slices by itself; images ``(B, C, H, W)`` pass as
    they are, so that the network trains on slices and is deployed, and attacked, on volumes.

    Args:
        network: ``(B, C, H, W)`` to ``(B, K, H, W)``, without anything that mixes the cases of a batch in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), or volumes (B, C, H, W, D) slice by slice, to logits of the same axes."""
        if x.dim() == 4:
            return self.network(x)
        batch, depth = x.shape[0], x.shape[4]
        slices = x.permute(0, 4, 1, 2, 3).flatten(0, 1)
        return self.network(slices).unflatten(0, (batch, depth)).permute(0, 2, 3, 4, 1)
