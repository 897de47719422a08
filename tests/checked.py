"""Victims that checks are about, small enough to be understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef import ThreatModel, Victim
from monai_advdef.checks import Verdict, run_checks


class Changed(nn.Module):
    """``change(network, x)`` in place of ``network(x)``."""

    def __init__(self, network: nn.Module, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.network, x)


class Threshold(nn.Module):
    """Foreground is what is brighter than ``at``; on two classes, or on one channel for a sigmoid head."""

    def __init__(self, at: float, *, classes: int = 2, steep: float = 10.0) -> None:
        super().__init__()
        self.at, self.classes, self.steep = at, classes, steep

    def forward(self, x: Tensor) -> Tensor:
        z = self.steep * (x.mean(1, keepdim=True) - self.at)
        return z if self.classes == 1 else torch.cat([-z, z], 1)


def halves(*size: int, low: float = 100.0, high: float = 102.0, cases: int = 2, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images that are ``low`` on one half and ``high`` on the other, which is the foreground."""
    label = torch.zeros(cases, 1, *size)
    label[..., size[-1] // 2 :] = 1
    return (low + (high - low) * label).repeat(1, channels, *[1] * len(size)), label


def verdict(name: str, victim: Victim, threat: ThreatModel, image: Tensor, label: Tensor, **known: Any) -> Verdict:
    """That of one check."""
    (found,) = run_checks(victim, threat, image, label, only=[name], **known)
    return found
