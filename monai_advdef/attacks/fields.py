"""Deformation and intensity change optimised for each image by gradient: what the trained generator is measured against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Iterate
from monai_advdef.synthesis import (
    FieldPenalty,
    Fields,
    FieldStore,
    check_displacement,
    control_shape,
    fields_from,
    hinge,
    organ_cross_entropy,
    parts_of,
)
from monai_advdef.threat import Ball
from monai_advdef.types import Images, PerCase

MOMENTS = (0.9, 0.999)  # decay rates of Adam, Kingma & Ba 2015


@dataclass(frozen=True, kw_only=True)
class FieldAttack(Attack):
    """Lower ``hinge + penalty`` over the control points of the two fields by Adam, from the image as it is.

    The same objective and the same family of smooth, bounded, fold-free fields as :class:`SynthesisAttack`, but fitted to each case
    with its label. The last iterate counts: it is where hinge and penalty hold each other. Untargeted.

    Args:
        steps: gradients of the victim.
        learning_rate: of Adam, on control points before their bound (tanh).
        xi: cross-entropy in nats that is asked for; 0 leaves the image alone.
        per_organ: hinge for each organ, or over the voxels of all.
        per_voxel: no voxel counts for more than xi.
        spacing: of the control points, in voxels, one number or one per axis.
        max_displacement: in voxels; at most spacing / 2.05 in 2D and spacing / 2.48 in 3D.
        max_intensity: in sigma of the image.
        parts: ``"both"``, ``"deformation"`` or ``"intensity"``.
        smooth_displacement, smooth_intensity, norm_displacement, norm_intensity: see
            :class:`monai_advdef.synthesis.FieldPenalty`.
        fields_dir: where the fields are kept for :class:`monai_advdef.handlers.synthesis.SynthesisHandler`; ``None`` keeps none.

    Raises:
        ValueError: unknown ``parts``; weights, xi or bounds out of range; ``keep``, ``restarts`` or a target that this attack lacks;
            in use, fields that may fold, and a threat of norm ``"l2"``.

    Source: objective and bounds as :class:`monai_advdef.synthesis.SynthesisTrainer`; optimisation per case is ours.
    """

    keep: str = "last"
    steps: int = 50
    learning_rate: float = 0.1
    xi: float = 2.0
    per_organ: bool = True
    per_voxel: bool = True
    spacing: int | Sequence[int] = 8
    max_displacement: float = 2.0
    max_intensity: float = 1.0
    parts: str = "both"
    smooth_displacement: float = 0.1
    smooth_intensity: float = 0.01
    norm_displacement: float = 1.0
    norm_intensity: float = 3.0
    fields_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parts_of(self.parts)
        self._penalty()
        if self.keep != "last" or self.restarts != 1 or self.target is not None:
            raise ValueError(
                "FieldAttack keeps the last iterate of one untargeted descent; keep must be 'last', restarts 1 and target None, "
                f"got {self.keep!r}, {self.restarts} and {self.target!r}"
            )
        for name in ("xi", "max_displacement", "max_intensity"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be ≥ 0, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}; 0.1 is usual")

    @property
    def label(self) -> str:
        """``fields`` and which of them."""
        return f"fields ({self.parts})"

    def to_config(self) -> dict[str, Any]:
        """The attack as a plain ``_target_`` configuration; where fields are kept is no part of it."""
        return {"_target_": "monai_advdef.attacks.FieldAttack", **asdict(self), "fields_dir": None}

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """The clean image.

        Raises:
            ValueError: the threat's norm is l2; ``max_displacement`` could fold the image.
        """
        if ball.threat.norm == "l2":
            raise ValueError(
                "norm 'l2' has no meaning for fields, which have bounds of their own; set norm to 'unbounded' or 'linf'"
            )
        check_displacement(self.max_displacement, self.spacing, ball.image.ndim - 2)
        return ball.image.clone()

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """Minus the hinge of the cross-entropy inside the organs, (B,), 0 where ``xi`` is reached.

        Raises:
            ValueError: a target is given.
        """
        if targeted:
            raise ValueError("FieldAttack is untargeted; leave the target out, or take another attack")
        limit = self.xi if self.per_voxel else math.inf
        return -hinge(*organ_cross_entropy(logits, aim, head=head, per_organ=self.per_organ, limit=limit), self.xi)

    def step(self, at: Iterate) -> Images:
        """The image under the fields after a step of Adam on loss and penalty; the last step's fields go to ``fields_dir``."""
        ball, memory = at.ball, at.memory
        raw = memory.get("raw", self._still(ball.image)).requires_grad_()
        fields = self._fields(raw, ball.image)
        made = fields.apply(ball.image).clamp(ball.lower, ball.upper)
        cost = self._penalty()(fields).sum()
        (gradient,) = torch.autograd.grad([made, cost], raw, [-at.gradient, torch.ones_like(cost)])
        memory["raw"] = self._descend(raw.detach(), gradient, at)
        with torch.no_grad():
            fields = self._fields(memory["raw"], ball.image)
            made = ball.project(fields.apply(ball.image))
        if self.fields_dir is not None and at.number == self.steps - 1:
            FieldStore(self.fields_dir).save(fields, made)
        return made

    def _descend(self, raw: Tensor, gradient: Tensor, at: Iterate) -> Tensor:
        """One step of Adam; its two moments are kept in the memory of the descent."""
        first, second = (at.memory.get(name, torch.zeros_like(raw)) for name in ("first", "second"))
        at.memory["first"] = first = MOMENTS[0] * first + (1 - MOMENTS[0]) * gradient
        at.memory["second"] = second = MOMENTS[1] * second + (1 - MOMENTS[1]) * gradient.square()
        count = at.number + 1
        scale = (second / (1 - MOMENTS[1] ** count)).sqrt() + 1e-8
        return raw - self.learning_rate * first / (1 - MOMENTS[0] ** count) / scale

    def _still(self, image: Tensor) -> Tensor:
        """Control points of both fields, displacement first, before their bound: all 0."""
        return image.new_zeros(len(image), image.ndim - 1, *control_shape(image.shape[2:], self.spacing))

    def _fields(self, raw: Tensor, image: Tensor) -> Fields:
        bounded = raw.tanh()
        points = {"displacement": self.max_displacement * bounded[:, :-1], "intensity": self.max_intensity * bounded[:, -1:]}
        return fields_from({part: points[part] for part in parts_of(self.parts)}, image, self.spacing)

    def _penalty(self) -> FieldPenalty:
        return FieldPenalty(
            smooth_displacement=self.smooth_displacement,
            smooth_intensity=self.smooth_intensity,
            norm_displacement=self.norm_displacement,
            norm_intensity=self.norm_intensity,
        )
