"""Image defences that obfuscate gradients (Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML 2018).

``surrogate=None`` leaves the gradient as the forward pass has it: useless. ``"straight_through"`` replaces it by the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_advdef.defenses import Defense, straight_through


class Obfuscated(Defense):
    """``obscure`` in front of the network. Its own gradient (``honest=False``) misleads; straight through it does not."""

    def __init__(self, *, honest: bool) -> None:
        super().__init__()
        self.honest = honest

    def obscure(self, grey: Tensor) -> Tensor:
        raise NotImplementedError

    def refine(self, grey: Tensor) -> Tensor:
        return straight_through(grey, self.obscure(grey)) if self.honest else self.obscure(grey)


class Posterised(Obfuscated):
    """Rounding to steps of 12 grey levels: the gradient is 0 everywhere."""

    def obscure(self, grey: Tensor) -> Tensor:
        return (grey / 12).round() * 12


class Thermometer(Obfuscated):
    """A staircase of steep sigmoids, differentiable on paper: its slope is 0 in float32 except on the edges of the steps."""

    def obscure(self, grey: Tensor) -> Tensor:
        edges = torch.arange(7.5, 255, 15.0).to(grey)
        return sum(15 * torch.sigmoid((grey - edge) * 1e3) for edge in edges) + 0 * grey


class PseudoNoise(Obfuscated):
    """A ripple too small to see and so steep that the sign of the gradient is as good as random."""

    def obscure(self, grey: Tensor) -> Tensor:
        return grey + 0.5 * torch.sin(400 * grey)


class SquareRootOfNothing(Obfuscated):
    """The identity, with a gradient of NaN."""

    def obscure(self, grey: Tensor) -> Tensor:
        return grey + (grey - grey.detach()).sqrt()
