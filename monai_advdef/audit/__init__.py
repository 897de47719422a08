"""What it takes to attack a network that was made elsewhere: its own preprocessing as a part of what is attacked."""

from __future__ import annotations

from monai_advdef.audit.dividing import Divided, divided
from monai_advdef.audit.kinds import NotDifferentiable
from monai_advdef.audit.tail import Tail

__all__ = ["Divided", "NotDifferentiable", "Tail", "divided"]
