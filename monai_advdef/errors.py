"""The error for data that cannot be used, what makes it of a reader's failure, and the nearest right word for a wrong one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class DataError(ValueError):
    """Data that cannot be used; the message names the file or field, what is wrong with it, and the remedy."""


@contextmanager
def reading(path: str | os.PathLike[str], wrong: str = "cannot be read", remedy: str = "fetch it again") -> Iterator[None]:
    """Whatever goes wrong while a file is read, as words that name it; libraries raise what their parsers and C code do.

    Args:
        path: the file, as the error names it.
        wrong: what is said of it, before the library's own words.
        remedy: what helps.

    Raises:
        DataError: in place of every exception but a :class:`DataError`, which passes.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} {wrong} ({reason(error)}); {remedy}") from error


def reason(error: BaseException) -> str:
    """The last line of an exception's text, or its name where it has none (zlib, EOF and C libraries are not talkative)."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """What an exception was raised from in the first place: a library's wrapper says that something failed, this says why."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def nearest(word: str, known: Iterable[str]) -> str:
    """``"did you mean 'skin'? known: skin"``: what an error about an unknown ``word`` says after it."""
    names = sorted(known)
    small, lower = word.lower(), {name.lower(): name for name in names}
    begun = [name for name in lower if len(name) > 2 and len(small) > 2 and (small.startswith(name) or name.startswith(small))]
    close = difflib.get_close_matches(small, lower, n=1, cutoff=0.7)
    close = close or difflib.get_close_matches(small, begun or lower, n=1, cutoff=0.4)
    meant = f"did you mean {lower[close[0]]!r}? " if close else ""
    return meant + "known: " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
