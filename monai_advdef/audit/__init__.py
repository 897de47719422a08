"""What it takes to attack a network that was made elsewhere: its own preprocessing as a part of what is attacked."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from monai_advdef.audit.dataset import AsDeployed, AuditDataset
from monai_advdef.audit.handler import TailHandler
from monai_advdef.audit.isolation import isolated
from monai_advdef.audit.module import Given
from monai_advdef.audit.outcome import Audit
from monai_advdef.audit.reading import AuditOptions, Fact, Reading
from monai_advdef.audit.run import audit
from monai_advdef.audit.scoring import GridHandler, LabelFiles, OnFileGrid, OwnMetric, References, WithReference
from monai_advdef.audit.socket import read_cases
from monai_advdef.audit.tail import Divided, NotDifferentiable, Tail, divided
from monai_advdef.audit.weights import load_weights, loaded_network

__all__ = [
    "AsDeployed",
    "Audit",
    "AuditDataset",
    "AuditOptions",
    "Divided",
    "Fact",
    "Given",
    "GridHandler",
    "LabelFiles",
    "NotDifferentiable",
    "OnFileGrid",
    "OwnMetric",
    "Reading",
    "References",
    "Tail",
    "TailHandler",
    "WithReference",
    "audit",
    "divided",
    "isolated",
    "load_weights",
    "loaded_network",
    "read_cases",
]


class _Callable(ModuleType):
    """``monai_advdef.audit`` is the room, and called it is the verb."""

    def __call__(self, model: Any, data: Any = None, **options: Any) -> Audit:
        return audit(model, data, **options)


sys.modules[__name__].__class__ = _Callable
