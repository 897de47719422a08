"""Volumetric adversarial frequency attack: learned quantisation of block-wise DCT coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.losses import SSIMLoss
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.dct import block_dct, block_idct, crop_to, pad_to_block
from monai_advdef.threat import Ball
from monai_advdef.types import Images

LEVELS = 255.0  # q is in 255ths of the value range, as on the images of the paper's code
FIRST, LAST = 0.1, 1e-6  # softness of the rounding at the first and at the last step


@dataclass(frozen=True, kw_only=True)
class VAFA(Attack):
    """Round the DCT coefficients of every block to multiples of a table of its own, and learn the tables by sign steps of one.

    What is added to an image is the inverse DCT of what the rounding changes, so ``q_max=0`` returns it bit for bit. Tables belong
    to a call: a second volume begins anew. The loss raised is the objective plus ``ssim_weight`` times the structural similarity to
    the image. The published attack has no bound (norm ``"unbounded"``); under linf or l2 what leaves the ball is cut off each time.

    Args:
        steps: how often the tables are changed.
        q_min, q_max: limits of the tables' entries, in 255ths of the value range; they begin at ``q_max``, 0 rounds nothing.
        block: edge of the square or cubic blocks, in voxels; at the far borders the last voxel is repeated to fill them.
        ssim_weight: of the structural similarity.

    Raises:
        ValueError: limits below 0 or the wrong way round, a block below 2, a weight below 0.

    Source: Hanif et al., "Frequency Domain Adversarial Training for Robust Volumetric Medical Segmentation", MICCAI 2023, and
    its code; the soft rounding is that of Duan et al., "AdvDrop: Adversarial Attack to DNNs by Dropping Information", ICCV 2021.
    """

    objective: str = "dice"
    steps: int = 20
    q_min: float = 5.0
    q_max: float = 20.0
    block: int = 32
    ssim_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= min(self.q_min, self.q_max) or self.q_min > self.q_max > 0:
            raise ValueError(f"q_min and q_max must be ≥ 0 and in this order, got {self.q_min} and {self.q_max}; 5 and 20 are usual")
        if not isinstance(self.block, int) or self.block < 2:
            raise ValueError(f"block must be a whole number of voxels ≥ 2, got {self.block!r}; 32 and 8 are usual")
        if not self.ssim_weight >= 0:
            raise ValueError(f"ssim_weight must be ≥ 0, got {self.ssim_weight}; 1 is usual, 0 leaves similarity alone")

    @property
    def label(self) -> str:
        """``VAFA``, the largest entry of its tables, objective and target."""
        return self._named(f"VAFA (q {self.q_max:g})")

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """The image with every coefficient rounded to multiples of ``q_max``."""
        coefficients = _coefficients(ball, self.block)
        return self._made(ball, coefficients, torch.full_like(coefficients, self.q_max), FIRST)

    def step(self, at: Iterate) -> Images:
        """Change every entry of the tables by one, to the side that raises the loss, and round again."""
        coefficients = at.memory["coefficients"] if at.number else _coefficients(at.ball, self.block)
        tables = at.memory["tables"] if at.number else torch.full_like(coefficients, self.q_max)
        ascent = at.gradient + self.ssim_weight * _similarity_gradient(at) if self.ssim_weight else at.gradient
        softness = FIRST + (LAST - FIRST) * at.number / max(at.steps - 1, 1)
        with torch.enable_grad():
            leaf = tables.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self._made(at.ball, coefficients, leaf, softness), leaf, ascent)
        tables = (tables + slope.sign()).clamp(min(self.q_min, self.q_max), self.q_max)
        at.memory.update(coefficients=coefficients, tables=tables)
        return self._made(at.ball, coefficients, tables, softness)

    def _made(self, ball: Ball, coefficients: Tensor, tables: Tensor, softness: float) -> Images:
        change = _rounded(coefficients, tables, softness) - coefficients
        return ball.image + crop_to(block_idct(change, self.block), ball.image.shape[2:]) * (ball.width / LEVELS)


def _coefficients(ball: Ball, block: int) -> Tensor:
    """Of the image in 255ths of its value range, 128 taken off; (B, C, \\*S) filled up to whole blocks."""
    return block_dct(pad_to_block(_scaled(ball, ball.image) * LEVELS - 128, block), block)


def _scaled(ball: Ball, x: Images) -> Images:
    """``x`` with the value range at 0 to 1."""
    return (x - ball.threat.bounds(ball.image)[0].to(x)) / ball.width


def _rounded(coefficients: Tensor, tables: Tensor, softness: float) -> Tensor:
    """Multiples of the tables' entries, softly: the step between two is a hyperbolic tangent. An entry of 0 changes nothing."""
    used = tables > 0
    ratio = coefficients / torch.where(used, tables, 1.0)
    floor = ratio.detach().floor()
    steepness = math.log(2 / softness - 1)
    soft = torch.tanh((ratio - floor - 0.5) * steepness) / (1 - softness)
    return torch.where(used, (floor + (soft + 1) / 2) * tables, coefficients)


def _similarity_gradient(at: Iterate) -> Tensor:
    """Of each case's structural similarity to its image, with respect to ``x``; windows of 11 voxels or what fits."""
    window = min(11, *((n - 1) // 2 * 2 + 1 for n in at.x.shape[2:]))
    similar = SSIMLoss(at.x.ndim - 2, data_range=1.0, win_size=window, reduction="none")
    with torch.enable_grad():
        leaf = at.x.detach().requires_grad_()
        lost = similar(_scaled(at.ball, leaf), _scaled(at.ball, at.ball.image))
        return -torch.autograd.grad(lost.sum(), leaf)[0]
