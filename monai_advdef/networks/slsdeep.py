"""SLSDeep: a dilated ResNet-50 with pyramid pooling, for skin lesions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.sizes import scaled
from monai_advdef.switches import as_written

EXPANSION = 4
SCALES = (1, 2, 3, 6)


def _unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


class DilatedBottleneck(nn.Module):
    """ResNet's bottleneck (1x1, 3x3, 1x1, four times ``planes`` out) with a dilated middle convolution; torchvision's names."""

    def __init__(self, inputs: int, planes: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, K, H, W) of the same size."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def _layer(inputs: int, planes: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = DilatedBottleneck(inputs, planes, stride=stride, dilation=dilation)
    rest = [DilatedBottleneck(EXPANSION * planes, planes, dilation=dilation) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class SLSDeep(nn.Module):
    """ResNet-50 with a stem of three 3x3 convolutions, dilation 2 in ``layer3`` and 4 in ``layer4`` (2048 channels at 1/8 of the
    image), pooled to 1, 2, 3 and 6 squares and put back beside itself, 3x3 convolutions, bilinear to the image: ``(B, C, H, W)``
    of any size to logits ``(B, K, H, W)``.

    Sarker et al., "SLSDeep" (MICCAI 2018), after its published code. As there, the last convolution is followed by batch norm, ReLU
    and dropout of one half, so no logit is negative; the log-softmax belongs to the loss. Training mode needs at least two images.

    Args:
        in_channels, out_channels: C and K.
        width: scales every inner channel count; 1 is the published size.
        nlce: put one :class:`NLCE` before the pyramid, 2048 channels at H/8 x W/8.

    Raises:
        ValueError: a ``width`` that is not positive.
    """

    @as_written
    def __init__(self, *, in_channels: int = 3, out_channels: int = 2, width: float = 1.0, nlce: bool = False) -> None:
        super().__init__()
        c64, c128, c256, c512 = (scaled(width, count) for count in (64, 128, 256, 512))
        features = EXPANSION * c512
        self.stem = nn.Sequential(*_unit(in_channels, c64, 3, stride=2), *_unit(c64, c64, 3), *_unit(c64, c64, 3))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(c64, c64, 3)
        self.layer2 = _layer(EXPANSION * c64, c128, 4, stride=2)
        self.layer3 = _layer(EXPANSION * c128, c256, 6, dilation=2)
        self.layer4 = _layer(EXPANSION * c256, c512, 3, dilation=4)
        self.nlce = NLCE(features) if nlce else nn.Identity()
        self.pyramid = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), *_unit(features, c512, 1)) for n in SCALES)
        self.fuse = nn.Sequential(*_unit(features + len(SCALES) * c512, c512, 3))
        self.head = nn.Sequential(*_unit(c512, out_channels, 3), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W)."""
        quarter = self.layer1(self.maxpool(self.stem(x)))
        eighth = self.nlce(self.layer4(self.layer3(self.layer2(quarter))))
        parts = [eighth]
        for pool in self.pyramid:
            parts.append(_resize(pool(eighth), eighth))
        return _resize(self.head(_resize(self.fuse(torch.cat(parts, dim=1)), quarter)), x)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
