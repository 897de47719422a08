"""What asks a process to end (a scheduler's SIGTERM, a closed terminal's SIGHUP) ends it as Ctrl-C does: with everything closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
GRACE = 5.0  # seconds in which the first signal may close what is open, whatever follows it


class Stopped(SystemExit):
    """A signal asked this process to end; it leaves with the exit code of shells, 128 plus its number, and reads as words."""

    def __init__(self, number: int, told: str) -> None:
        super().__init__(128 + number)
        self.words = f"stopped by {signal.Signals(number).name}; {told}"

    def __str__(self) -> str:
        return self.words


@contextmanager
def stoppable(told: str) -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise :class:`Stopped` after the words ``told``; repeated ones do nothing for a while.

    A signal that is ignored (``nohup``), or that somebody else handles, is left as it is; so is everything outside the main thread,
    where Python handles no signals.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        process, since = os.getpid(), -GRACE

        def stop(number: int, frame: FrameType | None) -> None:
            if os.getpid() != process:  # a worker that was forked within the block
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                return
            nonlocal since
            if time.monotonic() - since < GRACE:  # schedulers ask more than once
                return
            since = time.monotonic()
            stopped = Stopped(number, told)
            with suppress(OSError):  # nobody may be listening any more
                print(stopped, file=sys.stderr, flush=True)
            raise stopped

        before = {number: signal.signal(number, stop) for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
