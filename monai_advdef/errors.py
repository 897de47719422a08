"""The error for data that cannot be used, and the nearest right word for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data that cannot be used; the message names the file or field, what is wrong with it, and the remedy."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``"did you mean 'skin'? known: skin"``: what an error about an unknown ``word`` says after it."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return (f"did you mean {close[0]!r}? " if close else "") + "known: " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
