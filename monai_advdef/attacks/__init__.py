"""Attacks: small step rules, and the one loop that runs them."""

from __future__ import annotations

from monai_advdef.attacks.asma import ASMA
from monai_advdef.attacks.auto_pgd import AutoPGD
from monai_advdef.attacks.core import Attack, Iterate, Outcome
from monai_advdef.attacks.fields import FieldAttack
from monai_advdef.attacks.gradient import FGSM, PGD, IterativeFGSM, TargetedIterativeFGSM
from monai_advdef.attacks.lattice import Lattice
from monai_advdef.attacks.loop import run, run_sweep
from monai_advdef.attacks.noise import Noise
from monai_advdef.attacks.segmentation_pgd import CosPGD, SegPGD
from monai_advdef.attacks.synthesis import SynthesisAttack
from monai_advdef.attacks.targets import TARGETS, make_target

__all__ = [
    "ASMA",
    "FGSM",
    "PGD",
    "TARGETS",
    "Attack",
    "AutoPGD",
    "CosPGD",
    "FieldAttack",
    "Iterate",
    "IterativeFGSM",
    "Lattice",
    "Noise",
    "Outcome",
    "SegPGD",
    "SynthesisAttack",
    "TargetedIterativeFGSM",
    "make_target",
    "run",
    "run_sweep",
]
