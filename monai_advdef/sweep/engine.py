"""Engines: in this process one cell after the other, or by workers, of which one may die and its cell is tried again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.run import Runner
from monai_advdef.sweep.store import DONE, FAILED, State, Store

TRIES = 3  # of a cell whose worker dies: once, and twice again
LONG = 7 * 86400.0  # seconds to wait for a cell that another process works on


@dataclass(frozen=True)
class Event:
    """What happened to a cell: ``"began"``, ``"ended"``, ``"lost"`` (its worker died, it is tried again), ``"elsewhere"`` (another
    process works on it)."""

    what: str
    cell: SweepCell
    state: State = State()
    where: str = ""


Tell = Callable[[Event], None]


def run_here(folder: Path, cells: Sequence[SweepCell], tell: Tell) -> None:
    """Run cells in this process. Those that another process works on come last, and are waited for.

    Raises:
        OSError: the output folder cannot be written any more; what was done is kept.
    """
    run = Runner(folder, began=lambda cell: tell(Event("began", cell)))
    elsewhere = []
    for cell in cells:
        try:
            tell(Event("ended", cell, run(cell)))
        except TimeoutError:
            elsewhere.append(cell)
    for cell in elsewhere:
        tell(Event("elsewhere", cell))
        tell(Event("ended", cell, run(cell, wait=LONG)))


class Workers(ABC):
    """Processes that run cells, wherever they are: what an engine of many must know of them."""

    @abstractmethod
    def start(self, number: int) -> str:
        """Make worker ``number``, or make it anew after it died; returns where it runs, in words."""

    @abstractmethod
    def give(self, number: int, cell: SweepCell) -> None:
        """Hand a cell to an idle worker."""

    @abstractmethod
    def wait(self) -> list[tuple[int, str]]:
        """What workers say, at least one of them: number and ``"ended"``, ``"elsewhere"`` (it left the cell to another process) or,
        when it died, ``"died: why"``."""

    @abstractmethod
    def stop(self) -> None:
        """End all workers."""


def run_workers(folder: Path, cells: Sequence[SweepCell], tell: Tell, workers: Workers, number: int) -> None:
    """Run cells by ``number`` workers. A cell whose worker dies is tried again twice, and then has failed.

    Raises:
        RuntimeError: a worker died three times in a row without having taken a cell.
        OSError: the output folder cannot be written any more.
    """
    _Course(folder, list(cells), tell, workers).run(min(number, max(1, len(cells))))


class _Course:
    """The cells that are left, and who has which."""

    def __init__(self, folder: Path, cells: list[SweepCell], tell: Tell, workers: Workers) -> None:
        self.store, self.todo, self.tell, self.workers = Store(folder), cells, tell, workers
        self.given: dict[int, SweepCell] = {}
        self.deaths: dict[str, int] = {}
        self.idle: list[int] = []
        self.stillborn = 0

    def run(self, number: int) -> None:
        """Until no cell is left."""
        where = {}
        try:
            for worker in range(number):
                where[worker] = self.workers.start(worker)
                self.idle.append(worker)
            while self.todo or self.given:
                while self.idle and self.todo:
                    worker, cell = self.idle.pop(0), self._next()
                    self.given[worker] = cell
                    self.tell(Event("began", cell, where=where[worker]))
                    self.workers.give(worker, cell)
                for worker, said in self.workers.wait():
                    self._heard(worker, said)
                    if said.startswith("died"):
                        where[worker] = self.workers.start(worker)
                    self.idle.append(worker)
        finally:
            self.workers.stop()

    def _next(self) -> SweepCell:
        """The first cell whose images no other worker is making just now; where there is none, the first."""
        busy = {cell.id for cell in self.given.values()} | {cell.elder for cell in self.given.values() if cell.elder}
        free = [cell for cell in self.todo if cell.id not in busy and cell.elder not in busy]
        chosen = (free or self.todo)[0]
        self.todo.remove(chosen)
        return chosen

    def _heard(self, worker: int, said: str) -> None:
        cell = self.given.pop(worker, None)
        if cell is None:
            self.stillborn += 1
            if self.stillborn >= TRIES:
                raise RuntimeError(f"workers end before they take a cell ({said}); see {self.store.files}/worker{worker}.log")
            return
        self.stillborn = 0
        if said == "ended":
            self.tell(Event("ended", cell, self.store.state(cell)))
        elif said == "elsewhere":
            self.tell(Event("elsewhere", cell))
            self.todo.append(cell)
            if not self.given and all(self.store.state(one).status != DONE for one in self.todo):
                time.sleep(1.0)  # all that is left is worked on by others
        else:
            self._lost(cell, said.removeprefix("died: "))

    def _lost(self, cell: SweepCell, why: str) -> None:
        """The worker of a cell died."""
        if self.store.state(cell).status == DONE:  # between its last word and its end
            self.tell(Event("ended", cell, self.store.state(cell)))
            return
        self.deaths[cell.id] = times = self.deaths.get(cell.id, 0) + 1
        if times < TRIES:
            self.tell(Event("lost", cell, where=why))
            self.todo.insert(0, cell)
            return
        words = f"its process died {times} times ({why}); see {self.store.log(cell)}. Where memory was short, give fewer --workers"
        self.tell(Event("ended", cell, self.store.write(cell, State(FAILED, error=words, tries=times))))
