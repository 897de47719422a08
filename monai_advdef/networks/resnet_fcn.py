"""The fully convolutional ResNet-50 that Frequency Refinement was published with, for skin lesions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_advdef.networks.trunk import load_weights, monai_resnet


class ResNet50FCN(nn.Module):
    """ResNet-50 features at 1/4 to 1/32 of the image, joined by transposed convolutions with nothing in between: ``(B, C, H, W)`` to
    logits ``(B, K, H, W)``.

    As in the published code (repositories cygnus77/isic-2018 and qiliu08/frequency-refinement-defense, ``model.py``): the trunk
    (torchvision's ResNet-50, 7x7 stem of stride 2, 23,508,032 parameters), kernel, stride, padding and width of the four transposed
    convolutions, and the joins. Ours: K outputs without the final sigmoid (losses and attacks here take logits), no flattening.

    Args:
        in_channels, out_channels: C and K.
        weights: path of a file with torchvision's ResNet-50 weights (a state dict) to start the trunk from; its classifier is left
            out. Random (Kaiming) where not given; nothing is ever downloaded.

    Raises:
        FileNotFoundError: no such ``weights`` file.
        ValueError: ``weights`` of another network; an image side that is no multiple of 32.
    """

    def __init__(self, *, in_channels: int = 3, out_channels: int = 1, weights: str | None = None) -> None:
        super().__init__()
        trunk = monai_resnet("resnet50", in_channels=in_channels)
        if weights is not None:
            load_weights(trunk, weights, name="resnet50")
        self.conv1, self.bn1, self.act, self.maxpool = trunk.conv1, trunk.bn1, trunk.act, trunk.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4
        self.up4 = nn.ConvTranspose2d(2048, 256, kernel_size=4, stride=2, padding=1)
        self.up3 = nn.ConvTranspose2d(256 + 1024, 128, kernel_size=4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(128 + 512, 64, kernel_size=4, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(64 + 256, out_channels, kernel_size=4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W).

        Raises:
            ValueError: a side is no multiple of 32.
        """
        if x.shape[-2] % 32 != 0 or x.shape[-1] % 32 != 0:
            raise ValueError(f"image sides must be multiples of 32, got {x.shape[-2]}x{x.shape[-1]}; resize or pad the image")
        quarter = self.layer1(self.maxpool(self.act(self.bn1(self.conv1(x)))))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        up = self.up4(self.layer4(sixteenth))
        up = self.up3(torch.cat([up, sixteenth], dim=1))
        up = self.up2(torch.cat([up, eighth], dim=1))
        return self.up1(torch.cat([up, quarter], dim=1))
