"""The critic of the Wasserstein GAN: one number for how real an image looks."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks import Convolution
from torch import Tensor, nn


class Critic(nn.Module):
    """Convolutions of stride 2 with leaky ReLU and a linear mean: images (B, C, \\*S) in sigma to (B,), without batch statistics.

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        channels: of each level; from the second on multiples of 8 (group normalisation).

    Source: Arjovsky et al., "Wasserstein GAN", 2017; no batch normalisation, after Gulrajani et al. 2017.
    """

    def __init__(self, *, spatial_dims: int = 2, in_channels: int = 1, channels: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        act = ("leakyrelu", {"negative_slope": 0.2})
        widths = [in_channels, *channels]
        self.layers = nn.Sequential(
            *(
                Convolution(spatial_dims, a, b, strides=2, kernel_size=3, act=act, norm=("group", {"num_groups": 8}) if i else None)
                for i, (a, b) in enumerate(zip(widths, widths[1:]))
            )
        )
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """A number for each image (B, C, \\*S), (B,)."""
        return self.last(self.layers(image).flatten(2).mean(2))[:, 0]
