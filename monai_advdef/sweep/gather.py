"""The end of a sweep, made by whoever comes last: one folder of records, a table of the study, a card for each model and section."""

from __future__ import annotations

import csv
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from monai_advdef.neighbours import alone, cannot_write, whole
from monai_advdef.records import add_verdicts, read_verdicts
from monai_advdef.report import build
from monai_advdef.sweep.cells import AUDIT, SweepCell
from monai_advdef.sweep.store import DONE, State, Store, audit_folder

logger = logging.getLogger(__name__)
PATIENCE = 3600.0  # seconds that another process may gather
TABLE = "study.csv"
COLUMNS = ("model", "data", "attack", "defense", "status", "verdict", "dice", "iou", "seconds", "fingerprints", "error", "id")


def gather(folder: Path, cells: Sequence[SweepCell]) -> list[Path]:
    """Write table and cards of what is done so far; returns their paths, the table first.

    Records of audits are copied among those of the other cells, which lie there already.

    Raises:
        OSError: they cannot be written; names file and remedy.
    """
    store = Store(folder)
    states = [store.state(cell) for cell in cells]
    try:
        with alone(store.files / "gather.lock", timeout=PATIENCE):
            for cell, state in zip(cells, states):
                if cell.kind == AUDIT and state.status == DONE:
                    _bring(audit_folder(folder, cell), folder, state)
            return [_table(folder, cells, states), *_cards(folder, cells, states)]
    except OSError as error:
        raise error if error.filename is None else cannot_write(error.filename, error, "the end of the sweep") from error


def _bring(audit: Path, folder: Path, state: State) -> None:
    """Copy the records of an audit, with their provenance and verdicts."""
    names = [f"{name}.parquet" for name in state.fingerprints] + [f"_provenance/{name}.json" for name in state.fingerprints]
    for name in names:
        with whole(folder / "records" / name) as new:
            shutil.copyfile(audit / "records" / name, new)
    for name, entry in read_verdicts(audit).items():
        if name in state.fingerprints:
            add_verdicts(folder, name, entry)


def _table(folder: Path, cells: Sequence[SweepCell], states: Sequence[State]) -> Path:
    path = folder / TABLE
    with whole(path) as new, open(new, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for cell, state in zip(cells, states):
            scores = [state.scores.get("dice", ""), state.scores.get("iou", "")]
            told = [state.status, state.verdict, *scores, f"{state.seconds:.1f}", " ".join(state.fingerprints), state.error, cell.id]
            out.writerow([cell.model, cell.data, cell.attack, cell.defense, *told])
    return path


def _cards(folder: Path, cells: Sequence[SweepCell], states: Sequence[State]) -> list[Path]:
    """A card for each model and section that has a cell done; an audit has its own."""
    last = {(c.model, c.data): s.fingerprints[-1] for c, s in zip(cells, states) if s.status == DONE and c.kind != AUDIT}
    made = [audit_folder(folder, c) / "card.html" for c, s in zip(cells, states) if s.status == DONE and c.kind == AUDIT]
    for (model, data), run in last.items():
        name = "card.html" if len({(c.model, c.data) for c in cells}) == 1 else f"cards/{_plain(model)}_{_plain(data)}.html"
        try:
            made.append(build(folder, folder / name, model=model, run=run))
        except ValueError as error:
            logger.warning("no card of %s on %s: %s", model, data, error)
    return made


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
