"""What the two-dimensional measurements share: network, images in [0, 1], and the bare loop that is their unit of cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional

from monai_advdef import ThreatModel

CASES, SIDE, CLASSES = 8, 256, 2
EPS, STEP = 8 / 255, 2 / 255


def unet() -> nn.Module:
    """MONAI's 2-D UNet of two classes, in evaluation mode; its parameters still take gradients."""
    torch.manual_seed(0)
    return UNet(2, 1, CLASSES, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2).eval()


def batch(side: int, cases: int = CASES) -> tuple[Tensor, Tensor]:
    """Images (B, 1, side, side) in [0, 1] and class maps of the same shape."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(cases, 1, side, side, generator=generator)
    return image, (image > 0.5).long()


def threat() -> ThreatModel:
    return ThreatModel(eps=EPS, value_range=(0.0, 1.0), unit="1")


def bare_loop(network: nn.Module, image: Tensor, label: Tensor, steps: int) -> Callable[[], None]:
    """``steps`` times forward, mean cross-entropy and the gradient with respect to the input: what no attack can do without."""

    def loop() -> None:
        for _ in range(steps):
            leaf = image.detach().requires_grad_()
            torch.autograd.grad(functional.cross_entropy(network(leaf), label[:, 0]), leaf)

    return loop
