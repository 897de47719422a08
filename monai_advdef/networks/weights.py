"""Networks that start from a checkpoint: as they are, or as the beginning of a larger one."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from monai_advdef.networks.factory import segmentation_network
from monai_advdef.switches import as_written


@as_written
def trained(weights: str | os.PathLike[str], **options: Any) -> nn.Module:
    """A trained network in evaluation mode, on the CPU.

    Args:
        weights: a file written by a bundle's training (``models/model.pt``).
        options: of :func:`segmentation_network`, as it was trained.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another network; the options of :func:`segmentation_network`.
    """
    network = segmentation_network(**options)
    state = _read(weights)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights {str(weights)!r} are not those of {options}: {str(error).splitlines()[1].strip()}") from error
    return network.eval()


@as_written
def inherit(network: nn.Module, weights: str | os.PathLike[str], *, freeze: bool = True) -> list[str]:
    """Start ``network`` from the weights of a part of it, such as its twin without NLCE; what is inherited may be frozen.

    Frozen means without gradient, and with the running statistics of its normalisation as they are, also in training mode.

    Returns:
        Names of the parameters that are new.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds tensors that the network lacks, or of other shapes; nothing would be left to train.

    Source: He et al., "Non-Local Context Encoder", 2019, the procedure of its ablation.
    """
    state, own = _read(weights), network.state_dict()
    wrong = sorted(name for name, tensor in state.items() if name not in own or own[name].shape != tensor.shape)
    if wrong:
        raise ValueError(f"weights {str(weights)!r} are no part of this network: it has no {wrong[0]!r} of that shape")
    network.load_state_dict(state, strict=False)
    new = [name for name, _ in network.named_parameters() if name not in state]
    if freeze:
        if not new:
            raise ValueError(f"weights {str(weights)!r} are the whole network, so freezing them leaves nothing to train")
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in state)
        still = [m for name, m in network.named_modules() if isinstance(m, _NormBase) and f"{name}.running_mean" in state]
        network.register_forward_pre_hook(lambda *_: _keep_still(still))
    return new


def _keep_still(norms: list[_NormBase]) -> None:
    for norm in norms:
        norm.eval()


def _read(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    if not os.path.isfile(weights):
        raise FileNotFoundError(f"weights file {str(weights)!r} does not exist; train the network first, or correct the path")
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    return stored.get("model", stored)
