"""Who a process is, so that what it left can be told from what a living one holds: host, number and time of start."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    Args:
        host: name of the machine.
        pid: its number there; numbers are given again, hence ``started``.
        started: on Linux ``<boot of the machine>.<space of process numbers>.<tick of its start>``, elsewhere the time of its start.
    """

    host: str
    pid: int
    started: str

    @property
    def token(self) -> str:
        """As a part of a file name; :func:`from_token` reads it."""
        return f"{self.host}-{self.pid}-{self.started}"

    def alive(self) -> bool | None:
        """Whether it still runs; ``None`` where this process cannot tell: another host, another container, no such system."""
        own = me()
        if self.host != own.host or os.name != "posix":
            return None
        (boot, *space), (own_boot, *own_space) = (p.started.split(".")[:2] for p in (self, own))
        if sys.platform == "linux" and boot != own_boot:
            return False  # the machine was started anew since
        if sys.platform == "linux" and space != own_space:
            return None
        try:
            os.kill(self.pid, 0)  # asks, and sends nothing
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        started = _started(self.pid)
        return None if started is None else started == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def me() -> Process:
    """This process."""
    return _me(os.getpid())


def from_token(token: str) -> Process | None:
    """The process of a :attr:`Process.token`; ``None`` where the text is none."""
    host, _, rest = token.rpartition("-")[0].rpartition("-")
    started = token.rpartition("-")[2]
    return Process(host, int(rest), started) if host and rest.isdigit() else None


@functools.lru_cache(maxsize=1)
def _me(pid: int) -> Process:
    return Process(socket.gethostname() or "localhost", pid, _started(pid) or "0")


def _started(pid: int) -> str | None:
    """What tells two processes of one number apart; empty for one that has ended; ``None`` where it cannot be read."""
    if sys.platform == "linux":
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return "" if state in "ZX" else f"{_boot()}.{_space()}.{rest[18]}"
    if os.name != "posix":
        return None
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "".join(c for c in told.stdout if c.isalnum())


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().split("-")[0]
    except OSError:
        return "0"


@functools.cache
def _space() -> str:
    try:
        return "".join(c for c in os.readlink("/proc/self/ns/pid") if c.isdigit())
    except OSError:
        return "0"
