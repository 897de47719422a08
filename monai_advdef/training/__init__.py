"""Training defences: adversarial training (online, offline, free, TRADES), augmentation by a generator, defensive distillation."""

from __future__ import annotations

from monai_advdef.training.adversarial import AdversarialTraining
from monai_advdef.training.copies import adversarial_copies
from monai_advdef.training.distillation import SoftCrossEntropy, TeacherHandler, TemperedLoss, student
from monai_advdef.training.free import FreeAdversarialTraining, ReplayedDataLoader
from monai_advdef.training.frozen import frozen_copy
from monai_advdef.training.synthesis import SynthesisAugmentation
from monai_advdef.training.trades import TRADES, TRADESLoss, divergence

__all__ = [
    "TRADES",
    "AdversarialTraining",
    "FreeAdversarialTraining",
    "ReplayedDataLoader",
    "SoftCrossEntropy",
    "SynthesisAugmentation",
    "TRADESLoss",
    "TeacherHandler",
    "TemperedLoss",
    "adversarial_copies",
    "divergence",
    "frozen_copy",
    "student",
]
