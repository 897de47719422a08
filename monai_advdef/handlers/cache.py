"""Adversarial images on disk: each is crafted once, and a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from monai_advdef.neighbours import check_writable, clear_leftovers, whole
from monai_advdef.switches import as_written

Kept = list[list[dict[str, Any]]]
"""Entries by case and budget, or by budget and case."""
IMAGE, UNFINISHED = "adversarial", "_unfinished"
SMALL = 4096
"""Bytes of an array up to which it is not worth packing."""


class AdversarialCache:
    """One ``.npz`` per case, named by the digest of everything that the adversarial image depends on.

    Arrays are packed, and the image in the smallest form from which it comes back bit for bit: see :func:`packed`.

    Args:
        folder: where the files lie; made when the first is written.
    """

    passing = False
    """Whether what is stored lies in ``folder/_unfinished`` and is dropped when the evaluation is finished, see :meth:`drop`."""

    @as_written
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder, self._ready = Path(folder), False
        self._asked: set[str] = set()

    def load(self, key: str, clean: np.ndarray | None = None) -> dict[str, Any] | None:
        """What was stored under ``key``; ``None`` when nothing was, or when the file was cut short.

        The first call also removes what killed processes left half written.

        Args:
            key: of the file.
            clean: the image that was attacked, (C, \\*S), as it was given to :meth:`store`.

        Raises:
            OSError: from the first call, where the folder cannot be written.
        """
        if not self._ready:
            check_writable(cache_dir=self.folder)
            for folder in (self.folder, self.folder / UNFINISHED):
                clear_leftovers(folder)
            self._ready = True
        self._asked.add(key)
        for path in (self.folder / f"{key}.npz", self.folder / UNFINISHED / f"{key}.npz"):
            if path.exists():
                try:
                    with np.load(path) as stored:
                        return _unpacked({name: stored[name] for name in stored.files}, clean)
                except FileNotFoundError:  # another evaluation is finished and has dropped it
                    continue
                except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
                    path.unlink(missing_ok=True)
        return None

    def store(self, key: str, clean: np.ndarray | None = None, **arrays: Any) -> None:
        """Write all or nothing.

        Raises:
            OSError: the file cannot be written; names the file and the remedy. What was stored before stays.
        """
        path = (self.folder / UNFINISHED if self.passing else self.folder) / f"{key}.npz"
        made: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            made |= packed(name, np.asarray(array), clean if name == IMAGE else None)
        try:
            with whole(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot store the adversarial image ({error.strerror}); free space or point cache_dir elsewhere, then run the same "
                "command again: it goes on from here",
                str(path),
            ) from error

    def drop(self) -> None:
        """Remove of what lies in ``_unfinished`` that which was asked for: the evaluation that needed it is finished."""
        for key in self._asked:
            (self.folder / UNFINISHED / f"{key}.npz").unlink(missing_ok=True)
        self._asked = set()
        with suppress(OSError):  # others' images are there, or none ever was
            (self.folder / UNFINISHED).rmdir()
            self.folder.rmdir()


def packed(name: str, array: np.ndarray, clean: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """An array as entries of a file, in the smallest of the forms from which it comes back bit for bit.

    ``whole``; of floats also ``levels``, where all are whole numbers from 0 to 255, and beside the ``clean`` image ``change``, what
    is to be added to it (entries that would not come back are kept ``apart``). Of the bytes of all numbers the first come first,
    then the second, and so on, as like bytes stand together then; compressed by Zstandard.
    """
    if array.nbytes <= SMALL or array.dtype.kind not in "fiu":
        return {name: array}
    found = []
    for form, values, apart in _forms(array, clean):
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(-1, values.itemsize)
        pieces = {f"{name}.packed": np.frombuffer(pa.compress(data.T.tobytes(), "zstd", asbytes=True), np.uint8)}
        about = {"form": form, "of": array.dtype.str, "held": values.dtype.str, "shape": array.shape}
        pieces[f"{name}.about"] = np.array(json.dumps(about))
        if len(apart):
            pieces |= {f"{name}.at": apart.astype(np.int64), f"{name}.apart": array.reshape(-1)[apart]}
        found.append(pieces)
    return min(found, key=lambda pieces: sum(piece.nbytes for piece in pieces.values()))


def _forms(array: np.ndarray, clean: np.ndarray | None) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, numbers and the places that they get wrong, of every form."""
    none = np.array([], dtype=np.int64)
    forms = [("whole", array, none)]
    if array.dtype.kind != "f":
        return forms
    with np.errstate(all="ignore"):
        levels = array.astype(np.uint8)
        if _same(levels.astype(array.dtype), array).all():
            return [("levels", levels, none)]
        if clean is not None and clean.shape == array.shape and clean.dtype == array.dtype:
            change = array - clean
            apart = np.flatnonzero(~_same(clean + change, array))
            change.reshape(-1)[apart] = 0
            forms.append(("change", change, apart))
    return forms


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which numbers are the same bit for bit."""
    kind = f"u{a.itemsize}"
    return np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)


def _unpacked(stored: dict[str, Any], clean: np.ndarray | None) -> dict[str, Any]:
    """The arrays of :func:`packed`; ``KeyError`` where the clean image is needed and not given."""
    found = {name: value for name, value in stored.items() if "." not in name}
    for name in (name.removesuffix(".about") for name in stored if name.endswith(".about")):
        about = json.loads(str(stored[f"{name}.about"]))
        held, of, shape = np.dtype(about["held"]), np.dtype(about["of"]), tuple(about["shape"])
        size = int(np.prod(shape)) * held.itemsize
        data = np.frombuffer(pa.decompress(stored[f"{name}.packed"].tobytes(), size, "zstd", asbytes=True), np.uint8)
        values = data.reshape(held.itemsize, -1).T.copy().view(held).reshape(shape).astype(of)
        if about["form"] == "change":
            if clean is None:
                raise KeyError(f"{name} is kept as a change of the clean image, which is not given")
            values = clean + values
        if f"{name}.at" in stored:
            values.reshape(-1)[stored[f"{name}.at"]] = stored[f"{name}.apart"]
        found[name] = values
    return found


def recalled(
    cache: AdversarialCache | None,
    keys: Sequence[Sequence[str]],
    wanted: int,
    craft: Callable[[list[int]], Kept],
    clean: Sequence[np.ndarray] | np.ndarray,
) -> Kept:
    """Of every case the first ``wanted`` of its entries: what the cache holds of them, the rest crafted and stored.

    Where one is missing the whole batch is crafted, as the first time: a part of it would go through other kernels of torch, and end
    in other digits. So a run that was killed between two files, or met a neighbour that was writing them, has the same numbers.

    Args:
        cache: ``None``: all are crafted.
        keys: of every case, one for each of its entries; none: it is not stored.
        wanted: how many are asked for.
        craft: makes all entries of the cases with these numbers: for each entry in turn one for every case.
        clean: the image of every case before the attack, (C, \\*S).
    """
    held = [[cache.load(key, clean[i]) for key in own[:wanted]] if cache is not None else [] for i, own in enumerate(keys)]
    missing = [len(own) < wanted or None in own for own in held]
    for i, made in enumerate(zip(*craft(list(range(len(keys))))) if any(missing) else ()):
        if not missing[i]:
            continue
        held[i] = list(made[:wanted])
        for key, entry in zip(keys[i] if cache is not None else (), made):
            cache.store(key, clean[i], **entry)  # type: ignore[union-attr]
    return held  # type: ignore[return-value]
