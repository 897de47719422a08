"""Models compared on the same cases: pairing, statistics, tables and the page. It stands on records, statistics and the report, and
never imports torch or monai."""

from __future__ import annotations

from monai_advdef.comparison.comparing import Compared, Comparison, compare
from monai_advdef.comparison.page import build_page, render
from monai_advdef.comparison.tables import markdown_table, text_table

__all__ = ["Compared", "Comparison", "build_page", "compare", "markdown_table", "render", "text_table"]
