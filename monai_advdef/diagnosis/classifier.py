"""Classifiers of disc crops: MONAI's DenseNets and ResNets, and several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn

from monai_advdef.diagnosis.channels import CropChannels
from monai_advdef.errors import nearest
from monai_advdef.switches import as_written

FAMILIES = {  # constructor and the names it gives to the number of channels and of classes
    **{name: ("in_channels", "out_channels") for name in ("DenseNet", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")},
    **{name: ("n_input_channels", "num_classes") for name in ("ResNet", "resnet10", "resnet18", "resnet34", "resnet50")},
}


class CropClassifier(nn.Module):
    """A crop ``(B, 3, S, S)`` in grey levels to the logits ``(B, 2)`` of normal and glaucoma.

    Args:
        architecture: a class or function of ``monai.networks.nets``: DenseNet, DenseNet121 ... DenseNet264, ResNet, resnet10 ...
            resnet50.
        options: for it, such as ``init_features``, ``growth_rate``, ``block_config`` of DenseNet, ``block``, ``layers``,
            ``block_inplanes`` of ResNet.
        clahe, position_channels: see :class:`CropChannels`.

    Raises:
        ValueError: unknown ``architecture``; the message gives the nearest known one.
    """

    @as_written
    def __init__(
        self,
        *,
        architecture: str = "DenseNet",
        options: dict[str, Any] | None = None,
        clahe: Sequence[Sequence[float]] = (),
        position_channels: bool = True,
    ) -> None:
        super().__init__()
        if architecture not in FAMILIES:
            raise ValueError(f"no architecture {architecture!r}; {nearest(architecture, FAMILIES)}")
        self.channels = CropChannels(clahe=clahe, position_channels=position_channels)
        inputs, outputs = FAMILIES[architecture]
        sizes = {inputs: self.channels.channels, outputs: 2}
        self.network = getattr(nets, architecture)(spatial_dims=2, **sizes, **(options or {}))

    def forward(self, crop: Tensor) -> Tensor:
        """Logits (B, 2) of crops (B, 3, S, S) in grey levels."""
        return self.network(self.channels(crop))


class Ensemble(nn.Module):
    """Several classifiers of a crop: ``(B, 3, S, S)`` to logits ``(B, 2, members)``; one training trains each by itself."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, crop: Tensor) -> Tensor:
        """Logits (B, 2, members) of crops (B, 3, S, S) in grey levels."""
        return torch.stack([member(crop) for member in self.members], dim=-1)

    @staticmethod
    def loss(logits: Tensor, label: Tensor, weight: Sequence[float] | None = None) -> Tensor:
        """Mean cross-entropy over cases ``(B,)`` and members, each class counted by its ``weight``."""
        weights = None if weight is None else torch.as_tensor(weight, dtype=logits.dtype, device=logits.device)
        label = label.long().reshape(-1, 1).expand(-1, logits.shape[-1])
        return nn.functional.cross_entropy(logits, label, weight=weights)
