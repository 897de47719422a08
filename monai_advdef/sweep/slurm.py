"""Jobs of a Slurm cluster, through submitit: each runs a part of the cells, and what they write is what is known of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_advdef.errors import DataError, nearest
from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.engine import TRIES, Event, Tell, run_here
from monai_advdef.sweep.shards import part_of
from monai_advdef.sweep.store import FAILED, RUNNING, State, Store

CLUSTERS = ("slurm", "local")
SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
LOOK = 1.0  # seconds from one look at the folder to the next
DAY = 24 * 60  # minutes


class Part:
    """What a job does. A job that is preempted or runs out of time is queued again, and goes on."""

    def __call__(self, folder: str, cells: Sequence[Mapping[str, Any]]) -> None:
        """Run the cells, one after the other."""
        run_here(Path(folder), [SweepCell.of(cell) for cell in cells], lambda event: None)

    def checkpoint(self, folder: str, cells: Sequence[Mapping[str, Any]]) -> Any:
        """The same again: cells that are done are passed over."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, folder, cells)


def run_jobs(folder: Path, cells: Sequence[SweepCell], tell: Tell, number: int, settings: Mapping[str, Any]) -> None:
    """Run cells by ``number`` jobs. A cell whose job dies is tried again twice by another one, and then has failed.

    Args:
        folder: the output folder, which all nodes must see.
        cells: what is to be run.
        tell: hears of each event.
        number: of jobs.
        settings: of submitit: ``timeout_min``, ``mem_gb``, ``cpus_per_task``, ``gpus_per_node``, ``slurm_partition``, ...;
            ``cluster`` is ``"slurm"``, or ``"local"`` for processes of this machine.

    Raises:
        ValueError: submitit is not installed, there is no Slurm here, or a setting is unknown.
        RuntimeError: jobs end before they begin a cell.
    """
    executor = _executor(folder, cells[0].threads, settings)
    _Jobs(folder, cells, tell, executor).run(min(number, len(cells)))


def _executor(folder: Path, threads: int, settings: Mapping[str, Any]) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ValueError("the engine slurm needs submitit; pip install 'monai_advdef[slurm]'") from error
    given = {"cluster": "slurm", **settings}
    cluster = given.pop("cluster")
    if cluster not in CLUSTERS:
        raise DataError(f"cluster must be one of {', '.join(CLUSTERS)}, got {cluster!r}")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise DataError("there is no Slurm here (no sbatch); start this where jobs are submitted, or use --workers or --shard")
    known = [*SHARED, *(f"slurm_{name}" for name in sorted(submitit.SlurmExecutor._valid_parameters()))]
    for name in given:
        if name not in known:
            raise DataError(f"submitit has no parameter {name!r}; {nearest(name, known)}")
    executor = submitit.AutoExecutor(folder / "sweep" / "jobs", cluster=cluster)
    asked = {"name": "monai-advdef", "timeout_min": DAY, "cpus_per_task": threads, **given}
    executor.update_parameters(**(asked if cluster == "slurm" else {k: v for k, v in asked.items() if not k.startswith("slurm_")}))
    return executor


class _Jobs:
    """Jobs, the cells of each, and what has been told of them."""

    def __init__(self, folder: Path, cells: Sequence[SweepCell], tell: Tell, executor: Any) -> None:
        self.store, self.cells, self.tell, self.executor = Store(folder), cells, tell, executor
        self.jobs: dict[Any, list[SweepCell]] = {}
        self.before = {cell.id: self.store.state(cell).at for cell in cells}  # of earlier starts
        self.told: dict[str, str] = {}
        self.deaths: dict[str, int] = {}
        self.stillborn = 0

    def run(self, number: int) -> None:
        """Until every cell has ended."""
        parts = [part_of(self.cells, (n + 1, number)) for n in range(number)]
        try:
            with self.executor.batch():  # on Slurm an array
                jobs = [self._submitted(part) for part in parts]
            self.jobs = dict(zip(jobs, parts))
            while self.jobs:
                time.sleep(LOOK)
                for cell in self.cells:
                    self._look(cell)
                for job in [job for job in self.jobs if job.done()]:
                    self._ended(job)
        finally:
            for job in self.jobs:
                with suppress(Exception):  # it has ended meanwhile, or Slurm does not answer
                    job.cancel(check=False)

    def _submitted(self, cells: Sequence[SweepCell]) -> Any:
        return self.executor.submit(Part(), str(self.store.folder), [cell.plain() for cell in cells])

    def _state(self, cell: SweepCell) -> State:
        """Of this start; open where nothing was written since."""
        found = self.store.state(cell)
        return State() if found.at == self.before[cell.id] else found

    def _look(self, cell: SweepCell) -> None:
        """Tell what has become of a cell since the last look."""
        found = self._state(cell)
        if found.status == self.told.get(cell.id, ""):
            return
        self.told[cell.id] = found.status
        if found.status == RUNNING:
            self.tell(Event("began", cell, where=f"on {found.process['host']}"))
        elif found.ended:
            self.tell(Event("ended", cell, found))

    def _ended(self, job: Any) -> None:
        """A job has ended; what it left undone goes to another one."""
        left = [cell for cell in self.jobs.pop(job) if not self._state(cell).ended]
        for cell in left[:1]:  # it works on them in order
            self._lost(job, cell)
        left = [cell for cell in left if not self._state(cell).ended]
        for cell in left:
            self._look(cell)
        if left:
            self.jobs[self._submitted(left)] = left

    def _lost(self, job: Any, cell: SweepCell) -> None:
        why = f"job {job.job_id} ended before its cells had"
        if not self._state(cell).tries:
            self.stillborn += 1
            if self.stillborn >= TRIES:
                raise RuntimeError(f"jobs end before they begin a cell; see {job.paths.stderr}")
            return
        self.stillborn = 0
        self.deaths[cell.id] = times = self.deaths.get(cell.id, 0) + 1
        if times < TRIES:
            self.told.pop(cell.id, None)
            self.tell(Event("lost", cell, where=f"ended: {why}"))
            return
        words = f"its job ended {times} times before it had ({why}); see {job.paths.stderr} and {self.store.log(cell)}"
        self.store.write(cell, State(FAILED, error=words, tries=times))
        self._look(cell)
