"""Papers as runnable studies; the overlays in ``workflows/papers`` call them."""

from __future__ import annotations

from monai_advdef.papers.frequency_refinement import FrequencyRefinementTable
from monai_advdef.papers.robustifying import Robustness
from monai_advdef.papers.sweep import Sweep
from monai_advdef.papers.synthesis import SynthesisTable
from monai_advdef.papers.synthesis_panels import SynthesisFigures
from monai_advdef.papers.synthesis_robust import SynthesisRobustness
from monai_advdef.papers.tables import Table

__all__ = [
    "FrequencyRefinementTable",
    "Robustness",
    "Sweep",
    "SynthesisFigures",
    "SynthesisRobustness",
    "SynthesisTable",
    "Table",
]
