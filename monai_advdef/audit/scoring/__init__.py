"""Scoring as deployed: on the grid of the label files, by clinical measures too, and without labels against the clean prediction."""

from __future__ import annotations

from monai_advdef.audit.scoring.grid import OnFileGrid
from monai_advdef.audit.scoring.label_files import LabelFiles
from monai_advdef.audit.scoring.own_metric import OwnMetric, OwnScore, explain
from monai_advdef.audit.scoring.scores import GridHandler, grids_apart
from monai_advdef.audit.scoring.stability import References, WithReference

__all__ = [
    "GridHandler",
    "LabelFiles",
    "OnFileGrid",
    "OwnMetric",
    "OwnScore",
    "References",
    "WithReference",
    "explain",
    "grids_apart",
]
