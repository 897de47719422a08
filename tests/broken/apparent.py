"""Defences with an apparent gain, from the literature; :mod:`broken.twins` sets each beside its undefended twin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_advdef.defenses import Defense, straight_through
from monai_advdef.defenses.surrogates import round_smooth


class Rounding(Defense):
    """Steps of 12 grey levels (Xu et al., "Feature Squeezing", 2018: reduced bit depth). ``blind``: with the gradient of a rounding,
    which is 0; else that of a smooth one."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind

    def refine(self, grey: Tensor) -> Tensor:
        return (grey / 12).round() * 12 if self.blind else round_smooth(grey / 12, 0.95) * 12


class RandomResize(Defense):
    """Shrunk to a size drawn at random, padded at a place drawn at random, and brought back (Xie et al., "Mitigating Adversarial
    Effects Through Randomization", 2018, with the way back that a segmentation needs)."""

    stochastic = True

    def refine_drawn(self, grey: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        drawn = generators or [torch.Generator().manual_seed(0) for _ in grey]
        return torch.cat([self._one(case, generator) for case, generator in zip(grey.split(1), drawn)])

    def _one(self, case: Tensor, generator: torch.Generator) -> Tensor:
        full = case.shape[-1]
        size = int(torch.randint(int(0.6 * full), full, (), generator=generator))
        small = F.interpolate(case, size=(size, size), mode="bilinear", antialias=True)
        return F.interpolate(small, size=(full, full), mode="bilinear", antialias=True)


class RandomNoise(Defense):
    """Gaussian noise of 16 grey levels, drawn anew (Cohen et al. 2019 without the vote)."""

    stochastic = True
    sigma = 16.0

    def refine_drawn(self, grey: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        drawn = generators or [torch.Generator().manual_seed(0) for _ in grey]
        return grey + self.sigma * torch.stack([torch.randn(grey.shape[1:], generator=g) for g in drawn]).to(grey)


class Median(Defense):
    """A median filter of 5 x 5 pixels (Xu et al. 2018: spatial smoothing); differentiable almost everywhere."""

    def refine(self, grey: Tensor) -> Tensor:
        padded = F.pad(grey, [2] * 4, mode="replicate")
        return padded.unfold(2, 5, 1).unfold(3, 5, 1).flatten(4).median(4).values


class Jump(nn.Module):
    """A network whose activations jump: rounded to steps, the gradient of which is 0 (Xiao et al., "Enhancing Adversarial Defense by
    k-Winners-Take-All", 2020, for activations that are not continuous). ``honest`` passes the gradient on."""

    def __init__(self, network: nn.Module, *, honest: bool, step: float = 0.3) -> None:
        super().__init__()
        self.network, self.honest, self.step = network, honest, step

    def forward(self, x: Tensor) -> Tensor:
        jumped = (x / self.step).round() * self.step
        return self.network(straight_through(x, jumped) if self.honest else jumped)


class Detector(nn.Module):
    """Flags images on which the network disagrees with itself behind a blur, and answers these by the blurred ones (Xu et al. 2018:
    joint detection). Nobody is refused, yet an attacker who does not know it is answered as if there had been no attack."""

    def __init__(self, network: nn.Module, limit: float = 0.03) -> None:
        super().__init__()
        self.network, self.limit = network, limit

    def forward(self, x: Tensor) -> Tensor:
        blurred = F.avg_pool2d(F.pad(x, [2] * 4, mode="replicate"), 5, 1)
        own, calm = self.network(x), self.network(blurred)
        apart = ((own[:, 1:] > own[:, :1]) != (calm[:, 1:] > calm[:, :1])).flatten(1).float().mean(1)
        return torch.where((apart > self.limit).reshape(-1, 1, 1, 1), calm, own)
