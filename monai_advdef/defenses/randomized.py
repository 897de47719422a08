"""Frequency Refinement whose grid and table are drawn anew for every image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from monai_advdef.defenses.frequency import BLOCK, FrequencyRefinement
from monai_advdef.switches import as_written


class RandomizedFrequencyRefinement(FrequencyRefinement):
    """`FrequencyRefinement` on a grid shifted at random, with steps jittered at random, drawn for every case and pass.

    An attacker who knows it averages over draws (expectation over transformation, Athalye et al., "Synthesizing Robust Adversarial
    Examples", 2018), as `monai_advdef.Victim` does. Every draw is exact forward and has the surrogate gradient backward: a smooth
    rounding is that of the drawn steps, ``surrogate_step`` is compared with the step before the jitter.

    Deployed, without generators, a case draws from a generator seeded by ``seed`` and a digest of its own pixels on the 8-bit grid:
    the result can be repeated and does not depend on the batch.

    Args:
        grid_shift: shift the grid of blocks by 0..7 pixels along each transformed axis, each as likely. The edge is repeated on
            every side to whole blocks.
        jitter: every one of the 64 (or 512) steps is multiplied by ``exp(u)``, ``u`` uniform in ``[-jitter, jitter]``.
        seed: of the deployed draws; what a user keeps secret.
        refinement: the arguments of `FrequencyRefinement`.

    Raises:
        ValueError: a negative ``jitter``, or nothing that is random; see also `FrequencyRefinement`.
    """

    stochastic = True

    @as_written
    def __init__(self, *, grid_shift: bool = True, jitter: float = 0.2, seed: int = 0, **refinement: Any) -> None:
        super().__init__(**refinement)
        if not 0 <= jitter < float("inf"):
            raise ValueError(f"jitter must be ≥ 0 and finite, got {jitter!r}; the default is 0.2")
        if not grid_shift and not jitter:
            raise ValueError("grid_shift false and jitter 0 leave nothing random, got both; use FrequencyRefinement")
        self.grid_shift, self.jitter, self.seed = grid_shift, jitter, seed

    @property
    def label(self) -> str:
        """As :class:`FrequencyRefinement`, and ``randomized``."""
        return f"{super().label} randomized"

    def refine_drawn(self, grey: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        """Each case on a grid and with steps of its own draw; without generators they come from its pixels and ``seed``."""
        drawn = pixel_generators(grey, self.seed) if generators is None else generators
        return torch.cat([self._refine_with(case, *self.draw(generator)) for case, generator in zip(grey.split(1), drawn)])

    def draw(self, generator: torch.Generator) -> tuple[list[int], Tensor]:
        """One draw: the pixels by which the grid is shifted along each transformed axis, and the table of steps."""
        dims, device = self.quantisation.ndim, generator.device
        shift = torch.randint(BLOCK, (dims,), generator=generator, device=device).tolist() if self.grid_shift else [0] * dims
        exponents = torch.rand(self.quantisation.shape, generator=generator, device=device, dtype=torch.float64) * 2 - 1
        return shift, self.quantisation * (exponents * self.jitter).exp().to(self.quantisation)

    def _refine_with(self, case: Tensor, shift: Sequence[int], table: Tensor) -> Tensor:
        before = [0] * (case.ndim - 2 - len(shift)) + list(shift)
        sides = [side for pixels in reversed(before) for side in (pixels, 0)]
        refined = self.requantise(functional.pad(case, sides, mode="replicate"), table)
        for axis, pixels in enumerate(before, start=2):
            refined = refined.narrow(axis, pixels, case.shape[axis])
        return refined

    def _check_lattice(self) -> None:
        raise ValueError(
            "levels move with every draw of grid_shift and jitter; attack a randomised defence in expectation, in pixels"
        )


def pixel_generators(grey: Tensor, seed: int) -> list[torch.Generator]:
    """One generator per case of ``(B, C, *S)`` grey levels, seeded by ``seed`` and the case's pixels on the 8-bit grid."""
    pixels = grey.detach().nan_to_num(0).clamp(0, 255).round().to("cpu", torch.uint8)
    seeds = [hashlib.sha256(f"{seed} {tuple(case.shape)} ".encode() + case.numpy().tobytes()).digest()[:7] for case in pixels]
    return [torch.Generator().manual_seed(int.from_bytes(s, "big")) for s in seeds]
