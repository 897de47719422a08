"""Papers as runnable studies; the overlays in ``workflows/papers`` call them."""

from __future__ import annotations

from monai_advdef.papers.frequency_refinement.tables import FrequencyRefinementTable
from monai_advdef.papers.nlcen.sweep import Sweep
from monai_advdef.papers.robustifying.study import Robustness
from monai_advdef.papers.synthesis.augmentation import SynthesisRobustness
from monai_advdef.papers.synthesis.figure2 import SynthesisFigures
from monai_advdef.papers.synthesis.table1 import SynthesisTable
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
