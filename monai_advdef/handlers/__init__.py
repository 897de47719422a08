"""MONAI handlers: attack every batch, record every case, track every run."""

from __future__ import annotations

from monai_advdef.handlers.attack import AttackHandler, AttackNotApplied
from monai_advdef.handlers.cache import AdversarialCache
from monai_advdef.handlers.finite import FiniteCheck
from monai_advdef.handlers.guard import Suspect, evaluate, writable
from monai_advdef.handlers.options import VictimSettings
from monai_advdef.handlers.record import RecordHandler
from monai_advdef.handlers.regions import RegionHandler
from monai_advdef.handlers.suite import SuiteHandler
from monai_advdef.handlers.tracking import EvaluationTracker, TrainingTracker
from monai_advdef.handlers.volumes import AttackedVolumeSaver

__all__ = [
    "AdversarialCache",
    "AttackHandler",
    "AttackNotApplied",
    "AttackedVolumeSaver",
    "EvaluationTracker",
    "FiniteCheck",
    "RecordHandler",
    "RegionHandler",
    "SuiteHandler",
    "Suspect",
    "TrainingTracker",
    "VictimSettings",
    "evaluate",
    "writable",
]
