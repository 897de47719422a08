"""How a sweep is getting on: a live table on a terminal, a line for each event elsewhere; and what its folder says of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from monai_advdef.audit.plan import told_seconds
from monai_advdef.neighbours import Process
from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.engine import Event
from monai_advdef.sweep.store import DONE, FAILED, OPEN, RUNNING, State, Store

SHOWN = 8  # cells that have ended, in the live table


class Board:
    """Tells what happens to cells.

    Args:
        total: how many cells there are.
        before: how many of them were done already.
        console: where to print.
    """

    def __init__(self, total: int, before: int, console: Console) -> None:
        self.total, self.done, self.failed, self.console = total, before, 0, console
        self.running: dict[str, tuple[SweepCell, float, str]] = {}
        self.ended: list[tuple[SweepCell, State]] = []
        self.begun, self.worked = time.monotonic(), 0
        self.live = Live(console=console, transient=True, redirect_stdout=False, redirect_stderr=False, get_renderable=self._table)

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live.is_started:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        """One event."""
        cell = event.cell
        if event.what == "began":
            self.running[cell.id] = (cell, time.monotonic(), event.where)
            self._say(f"begun: {cell.name}" + (f" ({event.where})" if event.where else ""))
        elif event.what == "ended":
            self.running.pop(cell.id, None)
            self.ended.append((cell, event.state))
            self.worked += 1
            self.done += event.state.status == DONE
            self.failed += event.state.status == FAILED
            self._say(f"{self.done + self.failed}/{self.total} {ending(cell, event.state)}{self._left()}")
            for note in event.state.notes:
                self._note(f"note: {cell.name}: {note}")
        elif event.what == "lost":
            self.running.pop(cell.id, None)
            self._note(f"tried again: {cell.name}: its process {event.where}")
        else:
            self.running.pop(cell.id, None)
            self._note(f"waited for: {cell.name}: another process works on it")

    def _left(self) -> str:
        left = self.total - self.done - self.failed
        if not left or not self.worked:
            return ""
        return f", about {told_seconds((time.monotonic() - self.begun) / self.worked * left)} left"

    def _say(self, text: str) -> None:
        if not self.live.is_started:
            self._note(text)

    def _note(self, text: str) -> None:
        say(self.console, text)

    def _table(self) -> Group:
        table = Table("cell", "state", "Dice", "time", title=f"{self.done} of {self.total} cells done{self._left()}")
        for cell, state in self.ended[-SHOWN:]:
            table.add_row(escape(cell.name), in_words(state), dice(state), told_seconds(state.seconds))
        for cell, since, where in list(self.running.values()):
            table.add_row(escape(cell.name), f"running {where}".strip(), "", told_seconds(time.monotonic() - since))
        told = [f"{self.failed} failed"] if self.failed else []
        return Group(table, *told)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def ending(cell: SweepCell, state: State) -> str:
    """``"done: unet, test, pgd: Dice 0.412 in 12 seconds"``."""
    score = f" Dice {dice(state)}" if dice(state) else ""
    return f"{in_words(state)}: {cell.name}:{score} in {told_seconds(state.seconds)}"


def in_words(state: State) -> str:
    """The status, and of a cell that its checks doubt their verdict."""
    return f"{state.status}, {state.verdict}" if state.status == DONE and state.verdict not in ("", "ok") else state.status


def dice(state: State) -> str:
    """The mean Dice, or empty."""
    return f"{state.scores['dice']:.3f}" if "dice" in state.scores else ""


def print_status(store: Store, cells: Sequence[SweepCell], console: Console) -> list[State]:
    """What is done, running, failed and open, by the files of the sweep; returns the states."""
    states = [store.state(cell) for cell in cells]
    table = Table("cell", "state", "Dice", "time", "told")
    for cell, state in zip(cells, states):
        told = _told(store, cell, state)
        row = (cell.name, in_words(state), dice(state), told_seconds(state.seconds) if state.seconds else "", told)
        if console.is_terminal:
            table.add_row(*map(escape, row))
        else:
            say(console, "  ".join(filter(None, row)))
    if console.is_terminal:
        console.print(table)
    say(console, counted(states))
    return states


def _told(store: Store, cell: SweepCell, state: State) -> str:
    if state.status == RUNNING:
        return f"{Process(**state.process)} since {state.at}, try {state.tries}"
    if state.status == FAILED:
        return f"{state.error} (log: {store.log(cell)})"
    if state.status == OPEN and state.tries:
        return f"begun {state.tries} times and not ended"
    return "; ".join(state.notes)


def counted(states: Sequence[State]) -> str:
    """``"24 cells: 20 done, 1 failed, 3 open"``."""
    counts = Counter(state.status for state in states)
    told = ", ".join(f"{counts[status]} {status}" for status in (DONE, RUNNING, FAILED, OPEN) if counts[status])
    return f"{len(states)} cells: {told or 'none'}"
