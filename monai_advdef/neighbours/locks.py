"""One at a time: a lock file that the system gives up when its holder dies, and beside it who the holder is."""

from __future__ import annotations

import errno
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from monai_advdef.neighbours.processes import Process, me

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
PATIENCE = (1.0, 59.0)  # seconds until the first word about waiting, and then between one and the next


@contextmanager
def alone(path: str | os.PathLike[str], *, timeout: float) -> Iterator[None]:
    """Hold the lock file ``path``, which is made and removed again.

    Raises:
        TimeoutError: another process held it for ``timeout`` seconds.
        OSError: the file cannot be made.
    """
    try:
        lock = _locked(path, timeout)
    except Timeout as error:
        raise TimeoutError(f"another process has held {path} for {timeout:.0f} s") from error
    try:
        yield
    finally:
        _give_up(lock)


class Ownership:
    """The right to write something, held by one process at a time and given up by the system when that process ends.

    ``<path>.lock`` is locked, ``<path>.owner.json`` names the holder for the words to those who wait; both are removed in the end.

    Args:
        path: of what is owned; its folder is there.
        what: the same in words, such as ``"cell 1f0c…"``.
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.what, self._owner = what, Path(f"{path}.owner.json")
        self._path = f"{path}.lock"
        self._lock: BaseFileLock | None = None

    def take(self) -> None:
        """Wait until nobody else holds it, with a word at the start and one a minute.

        Raises:
            RuntimeError: this very process holds it.
            OSError: lock or owner cannot be written.
        """
        start, pauses = time.monotonic(), iter(PATIENCE)
        while True:
            try:
                self._lock = _locked(self._path, next(pauses, PATIENCE[-1]))
                break
            except Timeout:
                self._tell(time.monotonic() - start)
        try:
            self._owner.write_text(json.dumps({**asdict(me()), "since": time.strftime("%Y-%m-%d %H:%M:%S")}), encoding="utf-8")
        except OSError:  # a full disk
            self.release()
            raise

    def release(self) -> None:
        """Give it up; without effect where it is not held."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                self._owner.unlink()
            _give_up(lock)

    def __del__(self) -> None:
        with suppress(Exception):  # what a dying interpreter has already taken away
            self.release()

    def _tell(self, waited: float) -> None:
        try:
            known = json.loads(self._owner.read_text(encoding="utf-8"))
            holder, since = Process(known["host"], known["pid"], known["started"]), f" since {known['since']}"
        except (OSError, ValueError, KeyError, TypeError):  # it is being written, or was left away
            holder, since = None, ""
        if holder == me():
            raise RuntimeError(
                f"{self.what} is being written by this very process ({holder.pid} on {holder.host}){since}; close or release "
                "its first writer before a second one starts"
            )
        warnings.warn(
            f"{self.what} is being written by {holder or 'another process'}{since}; waiting for its end, {waited:.0f} s so far "
            "(stop that process, or give another output folder, if it should not run)",
            stacklevel=1,
        )


def _locked(path: str | os.PathLike[str], timeout: float) -> BaseFileLock:
    """The lock, held. Where a network file system knows no locks, a file that its holder makes and removes stands in for it.

    Raises:
        Timeout: another process held it for ``timeout`` seconds.
        OSError: it cannot be made.
    """
    try:
        lock: BaseFileLock = FileLock(path, thread_local=False)
        lock.acquire(timeout=timeout)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        with suppress(OSError):  # the empty file that could not be locked, or another's
            if not os.path.getsize(path):
                os.unlink(path)
        lock = SoftFileLock(path, thread_local=False)
        lock.acquire(timeout=timeout)
    return lock


def _give_up(lock: BaseFileLock) -> None:
    """Remove the file while it is locked: who waits for a file that is gone tries again with a new one."""
    with suppress(OSError):  # Windows removes no open file
        os.unlink(lock.lock_file)
    lock.release()
