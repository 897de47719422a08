"""What generator and critic are trained for: the weights of the terms and the rule that keeps the critic in bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monai_advdef.switches import AsWritten
from monai_advdef.synthesis.losses import FieldPenalty

CONSTRAINTS = ("gradient_penalty", "clipping")


@dataclass(frozen=True, kw_only=True)
class SynthesisObjective(metaclass=AsWritten):
    """The critic lowers E[C(x')] - E[C(x)], the generator ``-adversarial_weight E[C(x')]`` plus hinge, penalty and
    ``divergence_weight`` times the latents' divergence.

    Args:
        xi: the cross-entropy in nats that is asked for, 0 asks for nothing.
        per_organ: hinge for each organ instead of over all of them.
        per_voxel: no voxel counts for more than xi in the cross-entropy, so that a whole organ must fail and not a part of it badly.
        penalty: of the fields; a mapping gives its weights by name.
        constraint: ``"gradient_penalty"`` with ``penalty_weight``, or ``"clipping"`` of the critic's weights at ``clip``.
        critic_steps: moves of the critic for each of the generator.
        decay: of the running average of the generator's weights.

    Raises:
        ValueError: xi below 0, an unknown constraint, a critic without steps, a decay outside [0, 1).

    Source: Chen et al. 2019; Arjovsky et al., "Wasserstein GAN", 2017 (clip 0.01); Gulrajani et al. 2017 (penalty 10). One critic
    step and its weight of 0.1 are ours.
    """

    xi: float = 2.0
    per_organ: bool = True
    per_voxel: bool = True
    penalty: FieldPenalty = field(default_factory=FieldPenalty)
    constraint: str = "gradient_penalty"
    penalty_weight: float = 10.0
    clip: float = 0.01
    critic_steps: int = 1
    adversarial_weight: float = 0.1
    divergence_weight: float = 1e-3
    decay: float = 0.99

    def __post_init__(self) -> None:
        if self.constraint not in CONSTRAINTS:
            raise ValueError(f"constraint must be one of {', '.join(CONSTRAINTS)}, got {self.constraint!r}")
        if not self.xi >= 0:
            raise ValueError(f"xi must be ≥ 0 nats, got {self.xi}; the paper goes from 0.5 to 3")
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps must be ≥ 1, got {self.critic_steps}; 1 is usual")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}; 0.99 averages over about 100 iterations")
        penalty: Any = self.penalty or {}
        object.__setattr__(self, "penalty", FieldPenalty(**penalty) if isinstance(penalty, Mapping) else penalty)

    @property
    def limit(self) -> float:
        """What a voxel counts for at most, in nats."""
        return float(self.xi) if self.per_voxel else math.inf
