"""MLflow: a run for the study, and the runs of its cells as its children."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_advdef.sweep.cells import SweepCell


@contextmanager
def tracked(folder: Path, cell: SweepCell) -> Iterator[None]:
    """Within the block runs of MLflow are children of the study's."""
    yield
