"""Files that are written as a whole or not at all, and words for those that cannot be written."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monai_advdef.neighbours.processes import from_token, me

DAY = 86400.0  # seconds
_REMEDIES = {
    "free some space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "a file stands where a folder is wanted: move it": (errno.EEXIST, errno.ENOTDIR),
    "a folder stands where a file is wanted: move it": (errno.EISDIR,),
    "the name is too long: give a shorter one": (errno.ENAMETOOLONG,),
    "ask for the right to write there": (errno.EACCES, errno.EPERM, errno.EROFS),
}


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written: ``"free some space, or choose another output folder"``."""
    known = [words for words, numbers in _REMEDIES.items() if error.errno in numbers]
    return f"{known[0]}, or choose another output folder" if known else "choose another output folder"


def cannot_write(path: str | os.PathLike[str], error: OSError, what: str, then: str = "run the same command again") -> OSError:
    """The error to raise in place of ``error``: what could not be written, where, why, and the remedy."""
    return OSError(error.errno, f"cannot write {what} ({error.strerror or error}); {remedy(error)}, and {then}", str(path))


def check_writable(**folders: str | os.PathLike[str] | None) -> None:
    """Make folders and try a file in each, so that hours of work do not end at a folder that cannot be written.

    Args:
        folders: each by the option that it was given as, ``output_dir="out"``; ``None`` is passed over.

    Raises:
        OSError: naming option, folder and remedy.
    """
    for option, folder in folders.items():
        if folder is None:
            continue
        trial = Path(folder) / f"trial~{me().token}.tmp"
        try:
            trial.parent.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"x")
            trial.unlink()
        except OSError as error:
            with suppress(OSError):
                trial.unlink()
            raise cannot_write(folder, error, f"into {option}") from error


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to, which takes its place at the end; after an error ``path`` is as it was."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name[:80]}~{me().token}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def clear_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files in ``folder`` whose process has ended; where that cannot be known, those a day old."""
    for path in Path(folder).glob("*~*.tmp*"):  # SQLite has a journal beside its file
        owner = from_token(path.name.rpartition(".tmp")[0].rpartition("~")[2])
        alive = True if owner is None else owner.alive()
        with suppress(OSError):
            if alive is False or (alive is None and time.time() - path.stat().st_mtime > DAY):
                path.unlink()
