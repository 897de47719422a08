"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Terminal(Console):
    """A console that leaves it to the caller that nobody reads any more; rich would end the process with the exit code 1."""

    def on_broken_pipe(self) -> None:
        """Raise ``BrokenPipeError``."""
        raise BrokenPipeError


class Steps:
    """``with Steps("evaluating", 12) as steps: steps.done("clean")``.

    Args:
        title: printed once at the start.
        total: how many steps there are.
        console: where to print.
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.console, self.total, self.count = console or Terminal(), total, 0
        self.console.print(title)
        columns = (TextColumn("     {task.description:42.42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console, transient=True) if self.console.is_terminal else None

    def __enter__(self) -> Steps:
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total)
        return self

    def done(self, what: str) -> None:
        """One step more is done."""
        self.count += 1
        if self.bar:
            self.bar.update(self.task, advance=1, description=what)
        else:
            self.console.print(f"     {self.count}/{self.total} {what}", highlight=False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
