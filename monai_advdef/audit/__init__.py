"""What it takes to attack a network that was made elsewhere: its own preprocessing as a part of what is attacked."""

from __future__ import annotations

from monai_advdef.audit.intensity import IntensityTail, NotDifferentiable, divided

__all__ = ["IntensityTail", "NotDifferentiable", "divided"]
