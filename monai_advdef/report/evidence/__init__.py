"""The evidence page: what was tested, with which result, which texts that speaks to and what it does not cover; on one sheet."""

from __future__ import annotations

from monai_advdef.report.evidence.gathering import gather
from monai_advdef.report.evidence.page import build_evidence

__all__ = ["build_evidence", "gather"]
