"""Statistics over cases: summaries with patient-clustered intervals, paired tests, the worst case and the headline.

All functions take rows of records (see :mod:`monai_advdef.records`) and are deterministic: they do not depend on the order of rows.
"""

from __future__ import annotations

from monai_advdef.stats.cases import (
    CELL,
    THREAT,
    attacked,
    attacker,
    bootstrap_interval,
    clean,
    headline,
    headline_cases,
    is_member,
    per_case,
    summarize,
    worst_case,
)
from monai_advdef.stats.paired import (
    WAYS,
    Comparison,
    SignedRank,
    compare,
    compare_family,
    holm,
    signed_rank,
    way,
)

__all__ = [
    "CELL",
    "Comparison",
    "SignedRank",
    "THREAT",
    "WAYS",
    "attacked",
    "attacker",
    "bootstrap_interval",
    "clean",
    "compare",
    "compare_family",
    "headline",
    "headline_cases",
    "holm",
    "is_member",
    "per_case",
    "signed_rank",
    "summarize",
    "way",
    "worst_case",
]
