"""One cell of a sweep: evaluated by the same functions as by hand, its words kept in its log, and what became of it told."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import torch

from monai_advdef.audit import audit
from monai_advdef.audit.building import unwrapped
from monai_advdef.handlers import guard
from monai_advdef.records import read_records, read_verdicts
from monai_advdef.records.verdicts import worst
from monai_advdef.study import Cell, quiet, recorded, test_set
from monai_advdef.sweep.cells import BUNDLE, SweepCell
from monai_advdef.sweep.store import DONE, FAILED, OPEN, RUNNING, State, Store
from monai_advdef.sweep.tracking import tracked

KNOWN = ("attacks/", "suites/", "defenses/", "checks/")  # overlays of the house that leave the loading of images as it is
DATASET = "validate::dataset"
NOTES = 5  # warnings of a cell that are told; the others are in its log
Began = Callable[[SweepCell], None]


class Runner:
    """Runs cells one after the other in this process; what two neighbours load alike is loaded once.

    Args:
        folder: the output folder of the sweep.
        began: called with each cell when its work begins.
    """

    def __init__(self, folder: Path, began: Began = lambda cell: None) -> None:
        self.folder, self.store, self.began = folder, Store(folder), began
        self._read: tuple[Any, Any] | None = None

    def __call__(self, cell: SweepCell, *, wait: float = 0.0) -> State:
        """Run a cell, unless it is done, and write what became of it.

        Raises:
            TimeoutError: another process has worked on it for ``wait`` seconds.
            OSError: what became of it cannot be written.
        """
        with self.store.claimed(cell, wait=wait):
            before = self.store.state(cell)
            if before.status == DONE:
                return before
            tries = 1 if before.ended else before.tries + 1
            self.store.write(cell, State(RUNNING, tries=tries))
            self.began(cell)
            try:
                return self.store.write(cell, replace(self._run(cell), tries=tries))
            except BaseException:  # told to end
                self.store.write(cell, State(OPEN, tries=tries))
                raise

    def _run(self, cell: SweepCell) -> State:
        begun, notes = time.perf_counter(), list[str]()
        with open(self.store.log(cell), "a", encoding="utf-8", buffering=1) as log, _heard(log, notes), computing_with(cell.threads):
            try:
                with tracked(self.folder, cell):
                    made = self._evaluate(cell)
            except Exception as error:  # of this cell; the others go on
                traceback.print_exc(file=log)
                self._read = None
                made = State(FAILED, error=in_words(error))
        return replace(made, seconds=time.perf_counter() - begun, notes=tuple(dict.fromkeys(notes))[:NOTES])

    def _evaluate(self, cell: SweepCell) -> State:
        quiet()
        if cell.kind != BUNDLE:
            made = audit(cell.root, **cell.options, output_dir=str(audit_folder(self.folder, cell)))
            return _done(read_records(made.records), made.folder)
        with unwrapped():
            rows = recorded(*self.evaluation(cell))
        return _done(rows, self.folder)

    def evaluation(self, cell: SweepCell) -> tuple[Path, Cell, dict[str, Any]]:
        """Bundle, cell and overrides, as the functions of :mod:`monai_advdef.study` take them."""
        cases = self._cases(cell)
        told = {k: v for k, v in cell.overrides.items() if not (cases and k.startswith(f"{DATASET}::"))}
        settings = {**cell.settings, "output_dir": str(self.folder), **cases}
        return Path(cell.root), Cell(cell.overlays, {**told, "record_def::card": False}), settings

    def _cases(self, cell: SweepCell) -> dict[str, Any]:
        """The cases of a bundle, which every cell of one model and section loads alike, once read."""
        if not all(name.startswith(KNOWN) for name in cell.overlays):
            self._read = None
            return {}
        of = {k: v for k, v in cell.overrides.items() if not k.startswith(("attack_def::", "defense_def::"))}
        key = (cell.root, of, cell.settings)
        if self._read is None or self._read[0] != key:
            self._read = None  # of two data sets only one is held
            with unwrapped():
                self._read = key, test_set(Path(cell.root), {**cell.settings, **of, "output_dir": str(self.folder)})
        return {DATASET: self._read[1]}


def in_words(error: Exception) -> str:
    """An error in a line, with a remedy where memory was short."""
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return (
            f"out of memory: {words}; give smaller batches in settings (batch_size, sw_batch_size of the inferer), or fewer workers"
        )
    return words if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {words}"


def audit_folder(folder: Path, cell: SweepCell) -> Path:
    """The folder of an audit, which has a card and evidence of its own."""
    return folder / "audits" / cell.id


def _done(rows: pd.DataFrame, folder: Path) -> State:
    """What became of a cell that recorded these rows, told by its checks."""
    fingerprints = tuple(dict.fromkeys(rows["fingerprint"]))
    checked = {name: entry for name, entry in read_verdicts(folder).items() if name in fingerprints}
    verdicts = [verdict for entry in checked.values() for verdict in entry["verdicts"]]
    last = rows[rows["fingerprint"] == fingerprints[-1]]
    for column in ("attack", "adaptive"):  # of a suite the worst case, which stands first
        last = last[last[column] == last[column].iloc[0]]
    means = last[last["metric"].isin(["dice", "iou"])].groupby("metric")["value"].mean()
    scores = {str(name): float(value) for name, value in means.items()}
    return State(DONE, verdict=worst(verdicts) if verdicts else "", fingerprints=fingerprints, scores=scores)


@contextmanager
def _heard(log: TextIO, notes: list[str]) -> Iterator[None]:
    """Within the block all that is printed, logged or warned of goes into the log; warnings of the house also into ``notes``."""
    ours = logging.getLogger("monai_advdef")
    handler = _Notes(log, notes)
    ours.addHandler(handler)
    propagates, ours.propagate = ours.propagate, False

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        log.write(f"{category.__name__}: {message}\n")
        notes.append(str(message))

    try:
        with redirect_stdout(log), redirect_stderr(log), warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        ours.removeHandler(handler)
        ours.propagate = propagates


class _Notes(logging.Handler):
    """Keeps warnings of a cell."""

    def __init__(self, log: TextIO, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.log, self.notes = log, notes

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to the log and keep its words."""
        text = record.getMessage()
        self.log.write(f"{record.levelname}: {text}\n")
        if record.name != guard.__name__:  # whose last word sums up what checks have said
            self.notes.append(text)


@contextmanager
def computing_with(number: int) -> Iterator[None]:
    """Within the block torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
