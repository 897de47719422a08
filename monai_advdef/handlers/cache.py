"""Adversarial images on disk: each is crafted once, and a run that was killed goes on where it stopped."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.neighbours import check_writable, clear_leftovers, whole
from monai_advdef.switches import as_written


class AdversarialCache:
    """One ``.npz`` per case, named by the digest of everything that the adversarial image depends on.

    Args:
        folder: where the files lie; made when the first is written.
    """

    @as_written
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder, self._ready = Path(folder), False

    def load(self, key: str) -> dict[str, Any] | None:
        """What was stored under ``key``; ``None`` when nothing was, or when the file was cut short.

        The first call also removes what killed processes left half written.

        Raises:
            OSError: from the first call, where the folder cannot be written.
        """
        if not self._ready:
            check_writable(cache_dir=self.folder)
            clear_leftovers(self.folder)
            self._ready = True
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None

    def store(self, key: str, **arrays: Any) -> None:
        """Write all or nothing.

        Raises:
            OSError: the file cannot be written; names the file and the remedy. What was stored before stays.
        """
        path = self.folder / f"{key}.npz"
        try:
            with whole(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot store the adversarial image ({error.strerror}); free space or point cache_dir elsewhere, then run the same "
                "command again: it goes on from here",
                str(path),
            ) from error
