"""The verb: read a study, run what is left of it, and gather it when all has ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from monai_advdef.audit.reading import typed_settings
from monai_advdef.errors import nearest
from monai_advdef.neighbours import check_writable
from monai_advdef.progress import Terminal
from monai_advdef.study import quiet
from monai_advdef.sweep.board import Board, counted, print_status, say
from monai_advdef.sweep.cells import SweepCell, cells_of
from monai_advdef.sweep.cost import print_costs
from monai_advdef.sweep.engine import Tell, run_here, run_workers
from monai_advdef.sweep.gather import gather
from monai_advdef.sweep.shards import part_of, shard_of
from monai_advdef.sweep.store import DONE, FAILED, State, Store
from monai_advdef.sweep.study import Study, read_study
from monai_advdef.sweep.tracking import StudyRun

FINE, SUSPECT, UNFINISHED = 0, 1, 3
ENGINES = ("process", "slurm", "ray")


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How a sweep is run.

    Args:
        workers: local processes, or jobs of Slurm, or actors of Ray; 0: one of these, or this process itself.
        engine: ``"process"``, ``"slurm"`` or ``"ray"``.
        settings: of Slurm's jobs, see :func:`monai_advdef.sweep.slurm.run_jobs`, or of Ray's cluster.
        shard: ``"3/8"``, or empty: what a job array says, see :func:`monai_advdef.sweep.shards.shard_of`.
    """

    workers: int = 0
    engine: str = ENGINES[0]
    settings: Mapping[str, Any] | Sequence[str] = ()
    shard: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"there is no engine {self.engine!r}; {nearest(self.engine, ENGINES)}")
        object.__setattr__(self, "settings", typed_settings(self.settings))
        if self.settings and self.engine == ENGINES[0]:
            raise ValueError("--set is for the jobs of --engine slurm or the cluster of --engine ray; leave it away")
        if self.workers < 0:
            raise ValueError(f"workers must be a number of processes, or 0 for none beside this one, got {self.workers}")


def sweep(study: str | os.PathLike[str], output_dir: str | os.PathLike[str] = "", *, ways: Ways | None = None) -> int:
    """Run a study: every cell that is not done; cards and tables at the end. The same call goes on where it was stopped.

    Args:
        study: a YAML file, see :func:`monai_advdef.sweep.read_study`.
        output_dir: where everything goes; default: the study's, or ``sweep/<its name>`` in the working folder.
        ways: how.

    Returns:
        0: all is done; 1: and a check doubts a cell; 3: a cell has failed.

    Raises:
        ValueError: what is wrong with the study, or with what its folder holds.
        OSError: the folder cannot be written.
    """
    quiet()
    console, ways = Terminal(file=sys.stdout), ways or Ways()  # while a cell is run here, sys.stdout is its log
    shard = shard_of(ways.shard)
    told, folder, cells = opened(study, output_dir, console)
    check_writable(output_dir=folder)
    store = Store(folder)
    if gone := store.start(told.name, cells):
        say(console, f"{gone} cells of an earlier form of the study are in it no longer; their records stay")
    mine = cells if shard is None else part_of(cells, shard[:2])
    if shard is not None:
        say(console, f"shard {shard[0]} of {shard[1]} (from {shard[2]}): {len(mine)} of {len(cells)} cells")
    left = [cell for cell in mine if store.state(cell).status != DONE]
    say(console, f"{told.name}: {len(mine)} cells, {len(mine) - len(left)} done before; into {folder}")
    run = StudyRun(folder, told.name)
    run.begin()
    try:
        if left:
            with Board(len(mine), len(mine) - len(left), console) as board:
                _engine(ways, told, folder, left, board)
    except BaseException:
        if shard is None:
            run.end(cells, [store.state(cell) for cell in cells])
        raise
    return _conclude(folder, store, cells, mine, console, run)


def opened(
    study: str | os.PathLike[str], output_dir: str | os.PathLike[str], console: Console
) -> tuple[Study, Path, list[SweepCell]]:
    """The study, its output folder and its cells; what of it is not run is printed."""
    told = read_study(study)
    folder = Path(output_dir or told.output_dir or Path("sweep") / told.name).expanduser().resolve()
    cells, notes = cells_of(told, folder)
    for note in notes:
        say(console, f"note: {note}")
    return told, folder, cells


def dry_run(study: str | os.PathLike[str], output_dir: str | os.PathLike[str] = "", *, ways: Ways | None = None) -> int:
    """Print the cells that are left, their passes, and estimates of time, disk and memory; nothing is recorded.

    Returns:
        0, or 3 where a cell could not be looked at.

    Raises:
        ValueError: what is wrong with the study.
    """
    console, ways = Terminal(file=sys.stdout), ways or Ways()
    shard = shard_of(ways.shard)
    _, folder, cells = opened(study, output_dir, console)
    mine = cells if shard is None else part_of(cells, shard[:2])
    left = [cell for cell in mine if Store(folder).state(cell).status != DONE]
    return FINE if print_costs(folder, left, len(mine) - len(left), ways.workers, console) else UNFINISHED


def status(study: str | os.PathLike[str], output_dir: str | os.PathLike[str] = "") -> int:
    """Print what is done, running, failed and open; nothing is loaded or run.

    Returns:
        As :func:`sweep`; 3 also where cells are open.

    Raises:
        ValueError: nothing was started there.
    """
    told = read_study(study)
    store = Store(Path(output_dir or told.output_dir or Path("sweep") / told.name).expanduser().resolve())
    return code_of(print_status(store, store.plan()[1], Terminal(file=sys.stdout)))


def gathered(folder: str | os.PathLike[str]) -> list[Path]:
    """Table and cards of a sweep's folder, as it stands.

    Raises:
        ValueError: it holds no sweep.
    """
    store = Store(Path(folder).expanduser().resolve())
    return gather(store.folder, store.plan()[1])


def code_of(states: Sequence[State]) -> int:
    """The exit code that states of cells come to."""
    if any(state.status != DONE for state in states):
        return UNFINISHED
    return SUSPECT if any(state.verdict not in ("", "ok") for state in states) else FINE


def _engine(ways: Ways, study: Study, folder: Path, cells: Sequence[SweepCell], tell: Tell) -> None:
    if ways.engine == "slurm":
        from monai_advdef.sweep.slurm import run_jobs

        return run_jobs(folder, cells, tell, max(1, ways.workers), typed_settings(ways.settings))
    if ways.engine == "ray":
        from monai_advdef.sweep.ray_engine import RayActors

        number = min(max(1, ways.workers), len(cells))
        actors = RayActors(folder, study.threads, number, typed_settings(ways.settings))
        return run_workers(folder, cells, tell, actors, number)
    if not ways.workers:
        return run_here(folder, cells, tell)
    from monai_advdef.sweep.processes import Processes

    return run_workers(folder, cells, tell, Processes(folder, study.threads), ways.workers)


def _conclude(
    folder: Path, store: Store, cells: Sequence[SweepCell], mine: Sequence[SweepCell], console: Console, run: StudyRun
) -> int:
    """Gather where all cells have ended, and say what came of those of this process."""
    every, own = [store.state(cell) for cell in cells], [store.state(cell) for cell in mine]
    tell = partial(say, console)
    tell(counted(own))
    for cell, state in zip(mine, own):
        if state.status == FAILED:
            tell(f"failed: {cell.name}: {state.error} (log: {store.log(cell)})")
    if all(state.ended for state in every):
        made = gather(folder, cells)
        for path in made:
            tell(str(path))
        run.end(cells, every, made)
    else:
        tell(f"of all shards: {counted(every)}; the last one writes table and cards, or: monai-advdef report {folder}")
    _tell_twins(cells, every, tell)
    return code_of(own)


def _tell_twins(cells: Sequence[SweepCell], states: Sequence[State], tell: Callable[[str], None]) -> None:
    """Cells that were spelt in two ways and came to one evaluation share a table."""
    seen: dict[str, str] = {}
    for cell, state in zip(cells, states):
        for name in state.fingerprints if cell.kind == "bundle" else ():
            other = seen.setdefault(name, cell.name)
            if other != cell.name:
                tell(f"note: {other!r} and {cell.name!r} are the same evaluation ({name}), recorded once; leave one of them away")
