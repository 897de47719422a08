"""Image units in, logits out: the scaling into the network as the network's first layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardized(nn.Module):
    """``network((x - mean) / std)``: takes images ``(B, C, *S)`` in image units (grey levels, HU), so that eps belongs to the image.

    Args:
        network: any network; scriptable if it is.
        mean, std: in image units, one number or one per channel. Kept as buffers, so a checkpoint carries them.

    Raises:
        ValueError: a ``std`` that is not positive, or a different number of means and deviations.
    """

    def __init__(self, network: nn.Module, *, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means = [float(m) for m in (mean if isinstance(mean, Sequence) else [mean])]
        stds = [float(s) for s in (std if isinstance(std, Sequence) else [std])]
        if len(means) != len(stds):
            raise ValueError(f"mean and std must be equally many, got {len(means)} and {len(stds)}")
        if min(stds) <= 0:
            raise ValueError(f"std must be positive, in image units, got {std}")
        self.network = network
        self.mean = nn.Buffer(torch.tensor(means))
        self.std = nn.Buffer(torch.tensor(stds))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, \\*S) in image units to the network's answer for ``(x - mean) / std``."""
        return self.network(self._standardize(x))

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """The logits of all heads of a network that has several, the final one first, each ``(B, K, *S)``.

        Raises:
            ValueError: the network has one head only.
        """
        heads = getattr(self.network, "forward_heads", None)
        if heads is None:
            raise ValueError(f"{type(self.network).__name__} has a single head; call the network itself, or use NLCEN or NWCN")
        return heads(self._standardize(x))

    def _standardize(self, x: Tensor) -> Tensor:
        shape = [1, self.mean.numel()] + [1] * (x.dim() - 2)
        return (x - self.mean.view(shape)) / self.std.view(shape)
