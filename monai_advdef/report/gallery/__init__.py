"""Pictures of the worst and the median case: what is true, the prediction under attack, and the signed difference."""

from __future__ import annotations

from monai_advdef.report.gallery.outlines import outline
from monai_advdef.report.gallery.panels import amplify
from monai_advdef.report.gallery.rows import pictures

__all__ = ["amplify", "outline", "pictures"]
