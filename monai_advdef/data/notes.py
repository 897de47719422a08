"""What a loader has to tell that is no error: collected for a report by whoever asks for it, a warning otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def note(text: str) -> None:
    """Tell ``text``: to the innermost :func:`noted`, once; as a ``UserWarning`` where there is none."""
    notes = _collected.get()
    if notes is None:
        warnings.warn(text, stacklevel=3)
    elif text not in notes:
        notes.append(text)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the notes of what runs inside, on this thread, in the list that it gives."""
    notes: list[str] = []
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)


def some(names: Sequence[object], limit: int = 5) -> str:
    """``"a, b, c"``: at most ``limit`` names, and an ellipsis where there are more."""
    return ", ".join(map(str, names[:limit])) + (", ..." if len(names) > limit else "")
