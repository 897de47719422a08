"""Suites: frozen, versioned lists of attacks, of which every case counts with the worst."""

from __future__ import annotations

from monai_advdef.suite.definition import Behind, Member, Suite, digest_of, load_suite
from monai_advdef.suite.frozen import FROZEN
from monai_advdef.suite.judge import Judged
from monai_advdef.suite.set_level import WorstSet, pooled, worst_set
from monai_advdef.suite.worst import MemberOutcome, Ran, SuiteOutcome, attack_with

__all__ = [
    "FROZEN",
    "Behind",
    "Judged",
    "Member",
    "MemberOutcome",
    "Ran",
    "Suite",
    "SuiteOutcome",
    "WorstSet",
    "attack_with",
    "digest_of",
    "load_suite",
    "pooled",
    "worst_set",
]
