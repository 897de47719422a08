"""NWCN: atrous convolutions in two stages, the second seeing the first one's answer, for lungs in chest radiographs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.sizes import require_multiples, scaled
from monai_advdef.switches import as_written

RATES = (1, 1, 2, 2, 4, 8)


def _unit(inputs: int, outputs: int, *, stride: int = 1, rate: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=rate, dilation=rate, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


class AtrousBlock(nn.Module):
    """``relu(x + f(x))``, f two 3x3 atrous convolutions of one rate with batch norm, ReLU between them."""

    def __init__(self, channels: int, rate: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_unit(channels, channels, rate=rate), *_unit(channels, channels, rate=rate)[:-1])
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features of the same shape."""
        return self.relu(x + self.body(x))


def _stage(in_channels: int, out_channels: int, width: float, nlce: bool) -> nn.Sequential:
    c32, c64, c128 = (scaled(width, count) for count in (32, 64, 128))
    return nn.Sequential(
        nn.Sequential(*_unit(in_channels, c32), *_unit(c32, c64, stride=2), *_unit(c64, c128, stride=2)),
        nn.Sequential(*(AtrousBlock(c128, rate) for rate in RATES)),
        NLCE(c128) if nlce else nn.Identity(),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Sequential(*_unit(c128, c64)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Sequential(*_unit(c64, c32)),
        nn.Conv2d(c32, out_channels, 1),
    )


class NWCN(nn.Module):
    """Network-wise training of convolutional networks, two stages: ``first`` answers p1 from the image, ``second`` answers p2 from
    the image and softmax(p1): ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    Reconstruction: of Hwang & Park, "Accurate Lung Segmentation via Network-Wise Training of Convolutional Networks" (DLMIA 2017)
    only the abstract was at hand, which says atrous convolutions, few parameters, and stages fed with the image and the previous
    answer. Layers, widths, rates and the number of stages are ours.

    The paper trains stage by stage. In training mode ``forward`` gives the list [p2, p1], with p1 detached where ``second`` takes
    it: with a loss on each, each stage learns from its own loss only, both at once. In evaluation mode it gives p2, and gradients
    pass through the whole cascade.

    Args:
        in_channels, out_channels: C and K.
        width: scales every inner channel count.
        nlce: put one :class:`NLCE` into each stage, 128 channels at H/4 x W/4.

    Raises:
        ValueError: an image side that is no multiple of 4; a ``width`` that is not positive.
    """

    __constants__ = ["STEP"]
    STEP = 4

    @as_written
    def __init__(self, *, in_channels: int = 1, out_channels: int = 2, width: float = 1.0, nlce: bool = False) -> None:
        super().__init__()
        self.first = _stage(in_channels, out_channels, width, nlce)
        self.second = _stage(in_channels + out_channels, out_channels, width, nlce)

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """[p2, p1], each ``(B, K, H, W)``; in training mode p2 carries no gradient to ``first``."""
        require_multiples(x, self.STEP)
        first = self.first(x)
        seen = first.detach() if self.training else first
        return [self.second(torch.cat([x, seen.softmax(dim=1)], dim=1)), first]

    def forward(self, x: Tensor):  # a scripted network must have one return type: it answers p2 in either mode
        """Images (B, C, H, W) to the logits p2 (B, K, H, W), in training mode to the list [p2, p1]."""
        heads = self.forward_heads(x)
        if not torch.jit.is_scripting():
            if self.training:
                return heads
        return heads[0]
