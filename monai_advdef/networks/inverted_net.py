"""InvertedNet: a U-Net whose widths shrink on the way down, for chest radiographs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.sizes import require_multiples, scaled
from monai_advdef.switches import as_written


def _convolutions(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ELU(),
        nn.Dropout(dropout),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ELU(),
        nn.Dropout(dropout),
    )


def _glorot(module: nn.Module) -> None:
    """Keras' default weights: without any normalisation, torch's own let the signal fade over 18 convolutions."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class InvertedNet(nn.Module):
    """Five levels of 256, 128, 64, 32 and 16 channels, two 3x3 convolutions with ELU and dropout each, up again by repeating pixels
    (no parameters), joined to the level's features, a 1x1 head: ``(B, C, H, W)`` to logits ``(B, K, H, W)``. The first pooling is
    1x1 ("delayed subsampling"), so three poolings halve.

    Novikov et al., "Fully Convolutional Architectures for Multiclass Segmentation in Chest Radiographs" (IEEE TMI 2018). Widths and
    depth are confirmed by the parameter count (3,140,771 at one input and three outputs); the delayed subsampling, ELU, dropout
    after every convolution and its rate are from memory of the paper.

    Args:
        in_channels, out_channels: C and K.
        width: scales every inner channel count; 1 is the published size.
        dropout: probability; 0 turns it off.
        nlce: put one :class:`NLCE` on the lowest level, 16 channels at H/8 x W/8.

    Raises:
        ValueError: an image side that is no multiple of 8; a ``width`` that is not positive.
    """

    __constants__ = ["CHANNELS", "STEP"]
    CHANNELS = (256, 128, 64, 32, 16)
    STEP = 8

    @as_written
    def __init__(
        self, *, in_channels: int = 1, out_channels: int = 2, width: float = 1.0, dropout: float = 0.2, nlce: bool = False
    ) -> None:
        super().__init__()
        channels = [scaled(width, count) for count in self.CHANNELS]
        self.down = nn.ModuleList(_convolutions(a, b, dropout) for a, b in zip([in_channels, *channels[:-1]], channels))
        self.nlce = NLCE(channels[-1]) if nlce else nn.Identity()
        self.up = nn.ModuleList(_convolutions(a + b, b, dropout) for a, b in zip(channels[:0:-1], channels[-2::-1]))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        self.apply(_glorot)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W).

        Raises:
            ValueError: a side is no multiple of what the network halves.
        """
        require_multiples(x, self.STEP)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level < 2 else self.pool(x))
            skips.append(x)
        x = self.nlce(x)
        for level, merge in enumerate(self.up):
            skip = skips[len(self.up) - 1 - level]
            x = merge(torch.cat([F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip], dim=1))
        return self.head(x)
