"""Lines of text on the disk that belong to one writer, and are found again as they were written or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from monai_advdef.neighbours.locks import Ownership


class Disturbed(OSError):
    """Somebody else changed the file while its writer had it."""


class OwnedLines:
    """A text file with one writer at a time, who starts it afresh.

    Args:
        path: the file; its folder is there.
        owned: name beside it for the lock and its owner.
        what: for the words to those who wait.

    Raises:
        OSError: the file cannot be made.
        RuntimeError: this very process writes it already (see :class:`Ownership`, which waits for others).
    """

    def __init__(self, path: Path, owned: str, what: str) -> None:
        self._part, self._size, self._written = path, 0, hashlib.sha256()
        self._ownership = Ownership(path.with_name(owned), what)
        self._ownership.take()
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def append(self, text: str) -> None:
        """Write at once and to the disk.

        Raises:
            Disturbed: the file is gone, or is longer or shorter than it was left.
            OSError: it cannot be written.
        """
        found = self._part.stat().st_size if self._part.exists() else None
        if found != self._size:
            raise self._disturbed("is gone" if found is None else f"holds {found} bytes where {self._size} were written")
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._written.update(text.encode())
        self._size += len(text.encode())

    def lines(self) -> Iterator[str]:
        """All lines, one after the other from the disk; nothing is added afterwards.

        Raises:
            Disturbed: they are not those that were written; before the first is given, and where one changes meanwhile at the end.
        """
        self._file.close()
        read = hashlib.sha256()
        if self._part.exists():
            with self._part.open("rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    read.update(block)
        self._require(read)
        again = hashlib.sha256()
        if self._size:
            with self._part.open("rb") as file:
                for line in file:
                    again.update(line)
                    yield line.decode().rstrip("\n")
        self._require(again)

    def _require(self, read: hashlib._Hash) -> None:
        if read.digest() != self._written.digest():
            raise self._disturbed(f"does not hold the {self._size} bytes that were written")

    def release(self) -> None:
        """Leave the file to the next writer, as it is."""
        with suppress(OSError):
            self._file.close()
        self._ownership.release()

    def _disturbed(self, how: str) -> Disturbed:
        return Disturbed(
            f"{self._part} {how}: another process or a file-sync service changed it meanwhile, and no table is made of it; run this "
            "again, in a folder that nobody else touches"
        )
