"""The Robustness Card, the evidence page and the tables for documents, made from records alone."""

from __future__ import annotations

from monai_advdef.report.card import build
from monai_advdef.report.checked import doubts
from monai_advdef.report.evidence import build_evidence
from monai_advdef.report.tables import markdown_table

__all__ = ["build", "build_evidence", "doubts", "markdown_table"]
