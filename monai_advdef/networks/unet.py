"""MONAI's UNet, with a non-local context encoder at its bottom where wanted."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import UNet
from torch import nn

from monai_advdef.networks.nlce import NLCE
from monai_advdef.switches import as_written


class ContextUNet(UNet):
    """MONAI's UNet with one :class:`NLCE` after its bottom layer, between the last down- and the first up-sampling."""

    def _get_bottom_layer(self, in_channels: int, out_channels: int) -> nn.Module:
        bottom = super()._get_bottom_layer(in_channels, out_channels)
        return nn.Sequential(bottom, NLCE(out_channels, spatial_dims=self.dimensions))


@as_written
def unet(
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    strides: Sequence[int] | None = None,
    kernel_size: Sequence[int] | int = 3,
    up_kernel_size: Sequence[int] | int = 3,
    num_res_units: int = 2,
    act: tuple | str = "PRELU",
    norm: tuple | str = "batch",
    dropout: float = 0.0,
    bias: bool = True,
    adn_ordering: str = "NDA",
    nlce: bool = False,
) -> UNet:
    """MONAI's residual UNet, ``(B, C, *S)`` to logits ``(B, K, *S)``; half the resolution at each level unless ``strides`` say
    otherwise, so that image sides must be multiples of 16 with five levels.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        channels: the width of the levels.
        nlce: give :class:`ContextUNet`. The names in the state dict are MONAI's without it.

    The other options are MONAI's.
    """
    network = ContextUNet if nlce else UNet
    return network(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        strides=(2,) * (len(channels) - 1) if strides is None else strides,
        kernel_size=kernel_size,
        up_kernel_size=up_kernel_size,
        num_res_units=num_res_units,
        act=act,
        norm=norm,
        dropout=dropout,
        bias=bias,
        adn_ordering=adn_ordering,
    )
