"""Random noise of the attack's own size: the baseline every table needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images

KINDS = ("uniform", "gaussian", "sign")


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """One draw of noise, scaled so that its size in the threat's norm is eps (before the value range clips it).

    Args:
        kind: ``"uniform"``, ``"gaussian"``, or ``"sign"``: every voxel up or down by the same amount, the most that linf allows.
    """

    kind: str = "uniform"
    keep: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @property
    def label(self) -> str:
        """``noise-uniform``, ``noise-gaussian``: the kind is part of the name."""
        return f"noise-{self.kind}"

    def count(self, threat: ThreatModel) -> int:
        """None: noise takes no step."""
        return 0

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """Noise of exactly size eps in the threat's norm on the image, drawn for each case from its own generator.

        Raises:
            ValueError: the threat has no bound.
        """
        if ball.threat.norm == "unbounded":
            raise ValueError("noise needs a size: set norm to 'linf' or 'l2' and eps to the size of the attack it stands beside")
        shape = ball.image.shape[1:]
        draws = [_draw(self.kind, shape, g) for g in generators]
        noise = torch.stack(draws).to(ball.image)
        if ball.threat.norm == "l2":
            return ball.image + ball.eps * ball.direction(noise)
        peak = noise.abs().amax(tuple(range(2, noise.ndim)), keepdim=True).clamp_min(1e-30)
        return ball.image + ball.eps * noise / peak


def _draw(kind: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if kind == "uniform":
        return torch.rand(shape, generator=generator).mul_(2).sub_(1)
    if kind == "sign":
        return torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1).float()
    return torch.randn(shape, generator=generator)
