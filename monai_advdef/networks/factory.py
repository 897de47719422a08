"""Segmentation networks by name, each taking images in image units."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from monai_advdef.networks.cdnn import CDNN
from monai_advdef.networks.inverted_net import InvertedNet
from monai_advdef.networks.nlcen import NLCEN
from monai_advdef.networks.nwcn import NWCN
from monai_advdef.networks.resnet_fcn import ResNet50FCN
from monai_advdef.networks.slicewise import Slicewise
from monai_advdef.networks.slsdeep import SLSDeep
from monai_advdef.networks.standardized import Standardized
from monai_advdef.networks.unet import unet
from monai_advdef.networks.valid_unet import ValidUNet
from monai_advdef.switches import absent, as_written


@as_written
def _unet2d(*, in_channels: int, out_channels: int, residual: bool = True, channels: Sequence[int] = (16, 32, 64, 128)) -> nn.Module:
    """MONAI's 2D UNet on the slices of volumes, with instance norm."""
    units = 2 if residual else 0
    network = unet(in_channels=in_channels, out_channels=out_channels, channels=channels, num_res_units=units, norm="instance")
    return Slicewise(network)


@as_written
def _unet3d(*, in_channels: int, out_channels: int, residual: bool = True, channels: Sequence[int] = (8, 16, 32, 64)) -> nn.Module:
    """MONAI's 3D UNet with instance norm."""
    units = 2 if residual else 0
    return unet(
        spatial_dims=3, in_channels=in_channels, out_channels=out_channels, channels=channels, num_res_units=units, norm="instance"
    )


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cdnn": CDNN,
    "invertednet": InvertedNet,
    "nlcen": NLCEN,
    "nlcen_no_ce": partial(NLCEN, encoder=False),
    "nlcen_no_nl": partial(NLCEN, non_local=False),
    "nlcen_no_nlce": partial(NLCEN, nlce=False),
    "nwcn": NWCN,
    "resnet50fcn": ResNet50FCN,
    "slsdeep": SLSDeep,
    "unet": unet,
    "unet2d": _unet2d,
    "unet3d": _unet3d,
    "valid_unet": ValidUNet,
}


def available_networks() -> list[str]:
    """The names :func:`segmentation_network` knows."""
    return sorted(NETWORKS)


def require_network(name: str) -> None:
    """ValueError, with the nearest known name, unless :func:`segmentation_network` knows ``name``."""
    if name not in NETWORKS:
        close = difflib.get_close_matches(name.lower(), NETWORKS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no network {name!r}; {hint}known: {', '.join(available_networks())}")


def network_options(name: str) -> list[str]:
    """What the network called ``name`` can be given besides its channels; what makes an ablation that ablation is none of them."""
    network = NETWORKS[name]
    settled = {"in_channels", "out_channels", *(network.keywords if isinstance(network, partial) else ())}
    parameters = inspect.signature(network).parameters.values()
    own = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return sorted(own.union(getattr(getattr(network, "func", network), "BLOCK", ())) - settled)


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
        name: ``"unet"`` (MONAI's UNet, 5 levels of 16 to 256 channels), ``"resnet50fcn"`` (:class:`ResNet50FCN`),
            ``"valid_unet"`` (:class:`ValidUNet`), ``"nlcen"`` (:class:`NLCEN`; ``"nlcen_no_nlce"``, ``"nlcen_no_nl"`` and
            ``"nlcen_no_ce"`` lack the whole context encoder, its non-local part or its encoding), ``"invertednet"``
            (:class:`InvertedNet`), ``"cdnn"`` (:class:`CDNN`), ``"slsdeep"`` (:class:`SLSDeep`) or ``"nwcn"`` (:class:`NWCN`); for
            volumes ``"unet2d"`` (slice by slice) and ``"unet3d"``, MONAI's UNet with instance norm, ``residual`` or plain.
        mean, std: grey levels, one number or one per channel; the default maps 0..255 to -1..1 as the published code does.
        options: for the network itself, such as ``channels`` of the UNet, ``weights`` of the ResNet or ``nlce``; None stands for
            the network's own default.

    Raises:
        ValueError: unknown ``name`` (the message gives the nearest known one); an option the network does not take.
    """
    require_network(name)
    given = {option: value for option, value in options.items() if not absent(value)}
    known = network_options(name)
    for option in given:
        if option not in known:
            raise ValueError(f"network {name!r} takes no option {option!r}; it knows {', '.join(known)}: leave the other out")
    return Standardized(NETWORKS[name](in_channels=in_channels, out_channels=out_channels, **given), mean=mean, std=std)
