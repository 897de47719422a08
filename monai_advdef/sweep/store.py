"""What a sweep leaves on the disk of itself, in ``sweep/`` of its output folder: the plan, and of every cell a state, a log, a lock.

::

    sweep/plan.json    the cells of the study that was started last, and the versions that everything there was made with
    sweep/<id>.json    what became of a cell
    sweep/<id>.log     what its evaluation said
    sweep/<id>.lock    there while a process works on it
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from monai_advdef import __version__
from monai_advdef.errors import DataError
from monai_advdef.neighbours import Process, alone, cannot_write, me, whole
from monai_advdef.records import finished
from monai_advdef.sweep.cells import BUNDLE, SweepCell

OPEN, RUNNING, DONE, FAILED = "open", "running", "done", "failed"
PATIENCE = 60.0  # seconds that another process may hold a file which takes milliseconds


@dataclass(frozen=True)
class State:
    """What became of a cell.

    Args:
        status: ``"open"``, ``"running"``, ``"done"`` or ``"failed"``.
        verdict: of the checks, ``"ok"``, ``"suspect"`` or ``"broken"``; empty: none were made.
        fingerprints: names of the cell's tables in the records.
        scores: mean of each metric under the attack.
        seconds: what it took.
        error: why it failed, in a line.
        notes: what it warned of.
        tries: how many processes have begun it since it was last done or failed.
        process: who works, or worked, on it.
        at: when this was written.
    """

    status: str = OPEN
    verdict: str = ""
    fingerprints: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()
    tries: int = 0
    process: dict[str, Any] = field(default_factory=dict)
    at: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: done, or failed."""
        return self.status in (DONE, FAILED)


def versions() -> dict[str, str]:
    """Of all that decides numbers."""
    import monai

    return {
        "monai_advdef": __version__,
        "monai": monai.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class Store:
    """The files of a sweep.

    Args:
        folder: the output folder; ``sweep/`` in it is made when it is first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "sweep"

    def log(self, cell: SweepCell) -> Path:
        """What the evaluation of a cell said."""
        return self.files / f"{cell.id}.log"

    def plan(self) -> tuple[str, list[SweepCell]]:
        """Name and cells of the study that was started last.

        Raises:
            DataError: nothing was started here; the plan is damaged.
        """
        told = _read(self.files / "plan.json", "start the sweep again, which makes it anew")
        if told is None:
            raise DataError(f"{self.folder} holds no sweep; start one there, or name its output_dir")
        return told["name"], [SweepCell.of(cell) for cell in told["cells"]]

    def start(self, name: str, cells: Sequence[SweepCell]) -> int:
        """Make ``cells`` the plan; returns how many cells of an earlier plan are no longer in it.

        Raises:
            DataError: cells there were made with other versions, which would mix numbers that do not compare.
            OSError: it cannot be written; names it and the remedy.
        """
        path, own = self.files / "plan.json", versions()
        try:
            self.files.mkdir(parents=True, exist_ok=True)
            with alone(f"{path}.lock", timeout=PATIENCE):
                before = _read(path, "remove it and start the sweep again") or {"versions": own, "cells": []}
                known = [SweepCell.of(cell) for cell in before["cells"]]
                apart = {key: (before["versions"].get(key, "?"), value) for key, value in own.items()}
                apart = {key: both for key, both in apart.items() if both[0] != both[1]}
                if apart and any(self.state(cell).status != OPEN for cell in known):
                    told = ", ".join(f"{key} {old}, here {new}" for key, (old, new) in apart.items())
                    raise DataError(
                        f"{self.folder} holds cells made with other versions ({told}); their numbers may not compare: run all of a "
                        "study in one environment, or give another output_dir"
                    )
                with whole(path) as new:
                    held = {"name": name, "versions": own, "cells": [cell.plain() for cell in cells]}
                    new.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error, "the plan of the sweep") from error
        return len({cell.id for cell in known} - {cell.id for cell in cells})

    def state(self, cell: SweepCell) -> State:
        """What became of a cell; one that a dead process left running is open again, and one whose tables are gone."""
        told = _read(self.files / f"{cell.id}.json", "remove it: that cell is run again")
        if told is None:
            return State()
        found = State(**{**told, "fingerprints": tuple(told["fingerprints"]), "notes": tuple(told["notes"])})
        if found.status == RUNNING and Process(**found.process).alive() is False:
            return replace(found, status=OPEN)
        if found.status == DONE:
            records = (self.folder if cell.kind == BUNDLE else audit_folder(self.folder, cell)) / "records"
            return found if all(finished(records, name) for name in found.fingerprints) else State()
        return found

    def write(self, cell: SweepCell, state: State) -> State:
        """Write what became of a cell, whole; returns it with process and time.

        Raises:
            OSError: it cannot be written; names it and the remedy.
        """
        path = self.files / f"{cell.id}.json"
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        made = replace(state, process=asdict(me()), at=now)
        try:
            with whole(path) as new:
                new.write_text(json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error, f"what became of {cell.name}") from error
        return made

    @contextmanager
    def claimed(self, cell: SweepCell, *, wait: float) -> Iterator[None]:
        """Within the block nobody else works on the cell.

        Raises:
            TimeoutError: another process has held it for ``wait`` seconds.
            OSError: the folder cannot be written.
        """
        self.files.mkdir(parents=True, exist_ok=True)
        with alone(self.files / f"{cell.id}.lock", timeout=wait):
            yield


def audit_folder(folder: Path, cell: SweepCell) -> Path:
    """The folder of an audit, which has a card and evidence of its own."""
    return folder / "audits" / cell.id


def _read(path: Path, remedy: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
