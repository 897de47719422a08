"""Writing a cell: its name, and its rows as they come."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from monai_advdef.neighbours import Disturbed, OwnedLines, remedy
from monai_advdef.records.files import CELL, RecordError, read_cell
from monai_advdef.records.rows import SCHEMA, check_row, refuse_twice

PIECE = 5000
"""Rows that are turned into a table at a time: a cell of any size is closed in the same memory."""


def _pieces(rows: Iterable[dict]) -> Iterator[list[dict]]:
    rows = iter(rows)
    while piece := list(islice(rows, PIECE)):
        yield piece


def fingerprint(config: dict) -> str:
    """Sixteen hexadecimal digits that name a configuration: the start of the SHA-256 of its canonical JSON.

    The order of keys, tuples or lists, 8 or 8.0 make no difference. Raises ``TypeError`` where a value is not plain JSON.
    """

    def canonical(value: Any, at: str) -> Any:
        if isinstance(value, dict):
            return {str(key): canonical(item, f"{at}.{key}") for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [canonical(item, f"{at}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"{at} is {value!r}, which is not plain JSON; give numbers, strings, lists and dictionaries only")

    text = json.dumps(canonical(config, "config"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RecordWriter(OwnedLines):
    """Writes the rows of one cell, each batch at once and to the disk, so that a killed run keeps them.

    Starting a writer starts the cell afresh; a finished table of the same cell stands until :meth:`close` replaces it. A cell has
    one writer: where another process is writing it, the start waits for its end and says so, and a writer that died is followed at
    once. As a context manager it closes on success only: after an exception the rows stay in ``_unfinished/``.

    Args:
        folder: the folder of records, made if need be.
        fingerprint: name of the cell, see :func:`fingerprint`; every row must carry it.
        provenance: plain JSON (``config``, ``versions``, ``command``, ``weights``, ``data``); the time is added as ``recorded``.

    Raises:
        RecordError: the folder cannot be written, the disk is full, this process already writes the cell, or somebody else changed
            the rows on the disk.
        ValueError: the fingerprint is not a hexadecimal string, or (from :meth:`add`) a row is wrong.
    """

    def __init__(self, folder: str | Path, fingerprint: str, provenance: dict) -> None:
        if not CELL.fullmatch(fingerprint):
            raise ValueError(f"fingerprint must be a hexadecimal string, got {fingerprint!r}; use records.fingerprint(config)")
        self.fingerprint = fingerprint
        self.path = Path(folder) / f"{fingerprint}.parquet"
        self._provenance = Path(folder) / "_provenance" / f"{fingerprint}.json"
        self._part = Path(folder) / "_unfinished" / f"{fingerprint}.part.jsonl"
        self._facts = json.dumps({**provenance, "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds")}, indent=2)
        self._recorded: set[tuple] = set()
        try:
            for path in (self._provenance, self._part):
                path.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.path, self._provenance):  # found out now, not after hours of work
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            super().__init__(self._part, owned=fingerprint, what=f"cell {fingerprint} of {folder}")
        except RuntimeError as error:
            raise RecordError(str(error)) from error
        except OSError as error:
            raise self._failure(Path(error.filename or self._part), error) from error

    def add(self, rows: list[dict]) -> None:
        """Check the rows and append them to the part file at once."""
        lines: list[str] = []
        recorded: set[tuple] = set()
        for row in rows:
            checked = check_row(row)
            if checked["fingerprint"] != self.fingerprint:
                raise ValueError(f"fingerprint of a row is {checked['fingerprint']!r}, but this cell is {self.fingerprint!r}")
            refuse_twice(self._recorded, recorded, checked)
            lines.append(json.dumps(checked) + "\n")
        try:
            self.append("".join(lines))
        except OSError as error:
            raise self._failure(self._part, error) from error
        self._recorded |= recorded

    def close(self) -> Path:
        """Turn the recorded rows into the finished table, atomically, once it reads as it was recorded. Returns its path.

        Raises:
            RecordError: the table cannot be written, or the rows on the disk are not those that were recorded; nothing is replaced.
            ValueError: there is no row.
        """
        try:
            return self._finish()
        except RecordError:
            raise
        except OSError as error:
            raise self._failure(self.path, error) from error
        finally:
            self.release()

    def _finish(self) -> Path:
        if not self._recorded:
            raise ValueError(
                f"no rows were recorded for cell {self.fingerprint}; check that the evaluation ran over at least one case"
            )
        table, facts = self._part.with_suffix(".parquet"), self._part.with_suffix(".json")
        facts.write_text(self._facts, encoding="utf-8")
        with pq.ParquetWriter(table, SCHEMA) as file:
            for rows in _pieces(map(json.loads, self.lines())):
                file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        found = (json.dumps(row) for part in read_cell(table).to_batches(PIECE) for row in part.to_pylist())
        if any(ours != line for ours, line in zip_longest(found, self.lines())):
            raise self._disturbed(f"and {table.name} made of it do not hold the same rows")
        os.replace(facts, self._provenance)
        os.replace(table, self.path)
        self._part.unlink()
        return self.path

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.release()

    def _failure(self, path: Path, error: OSError) -> RecordError:
        if isinstance(error, Disturbed):
            return RecordError(str(error))
        return RecordError(
            f"cannot write {path}: {error.strerror or error}; {remedy(error)}, and run this cell again (the rows "
            f"recorded so far stay in {self._part})"
        )
