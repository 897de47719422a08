"""The Robustness Card and the tables for documents, made from records alone."""

from __future__ import annotations

from monai_advdef.report.card import build
from monai_advdef.report.checked import doubts
from monai_advdef.report.tables import markdown_table

__all__ = ["build", "doubts", "markdown_table"]
