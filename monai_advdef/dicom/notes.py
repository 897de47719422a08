"""What is odd but usable about many files: told once a kind, not once a file."""

from __future__ import annotations

import re
from collections.abc import Sequence

ABOUT = re.compile(r"^(?:subject |the case )?(\S+?)[:,]?(?=\s|$)")  # whom a note is about
NAMES = re.compile(rf"{ABOUT.pattern}|\S*[/\\]\S*|\d[\d.]*|\([^()]*\)")  # and paths, numbers, lists of names


def kind_of(note: str) -> str:
    """A note without the names and numbers in it: those of one kind are equal."""
    return NAMES.sub("", note)


def united(notes: Sequence[str], most: int = 3, named: int = 20) -> list[str]:
    """The notes, those of one kind as the first of them and whom the others are about where they are more than ``most``."""
    kinds: dict[str, list[str]] = {}
    for note in dict.fromkeys(notes):
        kinds.setdefault(kind_of(note), []).append(note)
    told = []
    for alike in kinds.values():
        about = dict.fromkeys(match[1] for note in alike[1:] if (match := ABOUT.match(note)))
        others = ", ".join([*about][:named]) + (", ..." if len(about) > named else "")
        told += [f"{alike[0]} (and {len(alike) - 1} notes like it: {others})"] if len(alike) > most else alike
    return told
