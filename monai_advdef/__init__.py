"""Attacks on, and defences of, medical-image segmentation networks, native to MONAI.

The names below are loaded on first use, so that ``import monai_advdef`` (and ``monai-advdef list``) does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_advdef.attacks import Outcome as Outcome
    from monai_advdef.attacks import run as run
    from monai_advdef.networks.prepared import PreparedInferer as PreparedInferer
    from monai_advdef.threat import ThreatModel as ThreatModel
    from monai_advdef.victim import Victim as Victim

__version__ = "0.2.0"
__all__ = ["Outcome", "PreparedInferer", "ThreatModel", "Victim", "audit", "run", "tune_allocator"]

_HOMES = {
    "Outcome": "monai_advdef.attacks",
    "PreparedInferer": "monai_advdef.networks.prepared",
    "ThreatModel": "monai_advdef.threat",
    "Victim": "monai_advdef.victim",
    "run": "monai_advdef.attacks",
    "tune_allocator": "monai_advdef.neighbours.allocator",
}


def __getattr__(name: str) -> Any:
    if name == "audit":  # a package that can be called
        return import_module("monai_advdef.audit")
    if name not in _HOMES:
        raise AttributeError(f"module 'monai_advdef' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
