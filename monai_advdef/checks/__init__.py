"""Checks: can the number that an attack left be trusted? Each says ok, suspect or broken, with its evidence in a sentence."""

from __future__ import annotations

from monai_advdef.checks.black_box import BlackBox
from monai_advdef.checks.bounds import Bounds
from monai_advdef.checks.convergence import Convergence
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.differences import Differences
from monai_advdef.checks.foreground import Foreground
from monai_advdef.checks.gradients import Gradients
from monai_advdef.checks.handler import ChecksHandler
from monai_advdef.checks.outputs import Outputs
from monai_advdef.checks.randomness import Randomness
from monai_advdef.checks.run import CHECKS, cost, run_checks
from monai_advdef.checks.scaling import Scaling
from monai_advdef.checks.stored import Stored
from monai_advdef.checks.subject import Subject, make_subject
from monai_advdef.checks.unbounded import Unbounded

__all__ = [
    "BlackBox",
    "Bounds",
    "CHECKS",
    "Check",
    "ChecksHandler",
    "Convergence",
    "Differences",
    "Foreground",
    "Gradients",
    "Outputs",
    "Randomness",
    "Scaling",
    "Stored",
    "Subject",
    "Unbounded",
    "Verdict",
    "cost",
    "make_subject",
    "run_checks",
]
