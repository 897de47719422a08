"""CDNN: convolutions down and up without skips, for skin lesions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.sizes import require_multiples, scaled
from monai_advdef.switches import as_written

EVEN_DOWN = (1, 2, 1, 2)
EVEN_UP = (2, 1, 2, 1)


def _unit(inputs: int, outputs: int, *, even: tuple[int, int, int, int] | None = None) -> list[nn.Module]:
    """3x3 convolution, or 4x4 behind the padding ``even`` (left, right, top, bottom), batch norm, ReLU."""
    if even is None:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return [nn.ZeroPad2d(even), nn.Conv2d(inputs, outputs, 4), nn.BatchNorm2d(outputs), nn.ReLU()]


class CDNN(nn.Module):
    """Convolutional-deconvolutional network: five levels of convolutions with batch norm and ReLU, four poolings, and back up by
    repeating pixels, nothing joined: ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    Yuan et al., "Automatic Skin Lesion Segmentation Using Deep Fully Convolutional Networks with Jaccard Distance" (IEEE TMI 2017).
    The layer table is from memory and unverified; its convolutions have 5,034,529 parameters at seven inputs (RGB, HSV and L, as
    published) and one output, near the five million the paper states, and batch norm adds 4,928. Reconstruction: where dropout
    stands (after levels 4 and 5), and the padding of the two 4x4 kernels, mirrored so that the half pixels they shift cancel.

    Args:
        in_channels, out_channels: C and K. The published network has one output z and a sigmoid; with ``out_channels=2`` that z
            makes the logits [0, z], whose softmax is the sigmoid. Any other K gives K outputs.
        width: scales every inner channel count; 1 is the published size.
        nlce: put one :class:`NLCE` on the lowest level, 512 channels at H/16 x W/16.

    Raises:
        ValueError: an image side that is no multiple of 16; a ``width`` that is not positive.
    """

    __constants__ = ["STEP"]
    STEP = 16

    @as_written
    def __init__(self, *, in_channels: int = 7, out_channels: int = 2, width: float = 1.0, nlce: bool = False) -> None:
        super().__init__()
        c16, c32, c64, c128, c256, c512 = (scaled(width, count) for count in (16, 32, 64, 128, 256, 512))
        self.down = nn.Sequential(
            *_unit(in_channels, c16),
            *_unit(c16, c32),
            nn.MaxPool2d(2),
            *_unit(c32, c64),
            *_unit(c64, c64),
            nn.MaxPool2d(2),
            *_unit(c64, c128),
            *_unit(c128, c128, even=EVEN_DOWN),
            nn.MaxPool2d(2),
            *_unit(c128, c256),
            *_unit(c256, c256),
            nn.Dropout(0.5),
            nn.MaxPool2d(2),
            *_unit(c256, c512),
            nn.Dropout(0.5),
        )
        self.nlce = NLCE(c512) if nlce else nn.Identity()
        self.up = nn.Sequential(
            *_unit(c512, c256),
            nn.Upsample(scale_factor=2),
            *_unit(c256, c256),
            *_unit(c256, c128),
            nn.Upsample(scale_factor=2),
            *_unit(c128, c128, even=EVEN_UP),
            *_unit(c128, c128),
            nn.Upsample(scale_factor=2),
            *_unit(c128, c64),
            *_unit(c64, c32),
            nn.Upsample(scale_factor=2),
            *_unit(c32, c16),
        )
        self.binary = out_channels == 2
        self.head = nn.Conv2d(c16, 1 if self.binary else out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W).

        Raises:
            ValueError: a side is no multiple of what the network halves.
        """
        require_multiples(x, self.STEP)
        out = self.head(self.up(self.nlce(self.down(x))))
        return torch.cat([torch.zeros_like(out), out], dim=1) if self.binary else out
