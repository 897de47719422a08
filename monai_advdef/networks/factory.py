"""Segmentation networks by name, each taking images in image units."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from monai.networks.nets import UNet
from torch import nn

from monai_advdef.networks.resnet_fcn import ResNet50FCN
from monai_advdef.networks.standardized import Standardized
from monai_advdef.networks.valid_unet import ValidUNet


def _unet(*, in_channels: int, out_channels: int, channels: Sequence[int] = (16, 32, 64, 128, 256), **options) -> nn.Module:
    """MONAI's residual 2D UNet, half the resolution at each level; image sides must be multiples of 16."""
    settings = {"strides": (2,) * (len(channels) - 1), "num_res_units": 2, "norm": "batch", **options}
    return UNet(spatial_dims=2, in_channels=in_channels, out_channels=out_channels, channels=channels, **settings)


NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": _unet, "resnet50fcn": ResNet50FCN, "valid_unet": ValidUNet}


def available_networks() -> list[str]:
    """The names :func:`segmentation_network` knows."""
    return sorted(NETWORKS)


def segmentation_network(
    name: str = "unet",
    *,
    in_channels: int = 3,
    out_channels: int = 2,
    mean: float | Sequence[float] = 127.5,
    std: float | Sequence[float] = 127.5,
    **options,
) -> Standardized:
    """The network called ``name`` behind its scaling: images ``(B, C, H, W)`` in grey levels to logits ``(B, K, H, W)``.

    Args:
        name: ``"unet"`` (MONAI's UNet, 5 levels of 16 to 256 channels), ``"resnet50fcn"`` (:class:`ResNet50FCN`) or
            ``"valid_unet"`` (:class:`ValidUNet`).
        mean, std: grey levels, one number or one per channel; the default maps 0..255 to -1..1 as the published code does.
        options: for the network itself, such as ``channels`` of the UNet or ``weights`` of the ResNet.

    Raises:
        ValueError: unknown ``name``; the message gives the nearest known one.
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(name.lower(), NETWORKS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no network {name!r}; {hint}known: {', '.join(available_networks())}")
    return Standardized(NETWORKS[name](in_channels=in_channels, out_channels=out_channels, **options), mean=mean, std=std)
