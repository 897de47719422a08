"""Training defences: adversarial training (online, offline, fast, free, TRADES), weight perturbation, generators, distillation."""

from __future__ import annotations

from monai_advdef.training.adversarial import AdversarialTraining
from monai_advdef.training.copies import adversarial_copies
from monai_advdef.training.distillation import SoftCrossEntropy, TeacherHandler, TemperedLoss, student
from monai_advdef.training.fast import FastGradient
from monai_advdef.training.free import FreeAdversarialTraining, ReplayedDataLoader
from monai_advdef.training.frozen import frozen_copy
from monai_advdef.training.overfitting_watch import OverfittingWatch
from monai_advdef.training.synthesis import SynthesisAugmentation
from monai_advdef.training.trades import TRADES, TRADESLoss, divergence
from monai_advdef.training.weight_perturbation import WeightPerturbation

__all__ = [
    "TRADES",
    "AdversarialTraining",
    "FastGradient",
    "FreeAdversarialTraining",
    "OverfittingWatch",
    "ReplayedDataLoader",
    "SoftCrossEntropy",
    "SynthesisAugmentation",
    "TRADESLoss",
    "TeacherHandler",
    "TemperedLoss",
    "WeightPerturbation",
    "adversarial_copies",
    "divergence",
    "frozen_copy",
    "student",
]
