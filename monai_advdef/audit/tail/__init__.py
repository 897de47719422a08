"""The preprocessing of a network from elsewhere in two, and its end as a differentiable part of the victim."""

from __future__ import annotations

from monai_advdef.audit.tail.dividing import Divided, divided
from monai_advdef.audit.tail.kinds import NotDifferentiable
from monai_advdef.audit.tail.tail import Tail

__all__ = ["Divided", "NotDifferentiable", "Tail", "divided"]
