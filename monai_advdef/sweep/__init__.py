"""Sweeps: a study of models x data x attacks x defences, run on one machine or many, cell by cell as by hand."""

from __future__ import annotations

from monai_advdef.sweep.cells import SweepCell, cells_of
from monai_advdef.sweep.store import State, Store
from monai_advdef.sweep.study import Study, read_study
from monai_advdef.sweep.ways import Ways, dry_run, gathered, status, sweep

__all__ = ["State", "Store", "Study", "SweepCell", "Ways", "cells_of", "dry_run", "gathered", "read_study", "status", "sweep"]
