"""Reading one file of records, a finished cell or one that was not finished; or words about what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monai_advdef.records.rows import COLUMNS, EXTRAS, KEY, SCHEMA, check_row

CELL = re.compile("[0-9a-f]+")  # name of a cell


class RecordError(OSError):
    """A file of records could not be written or read; the message names the file and the remedy."""


def unreadable(path: Path, error: Exception) -> RecordError:
    """The error for a file of records that cannot be read, with the remedy."""
    if isinstance(error, PermissionError):
        return RecordError(f"cannot read {path}: permission denied; ask for the right to read it, or give a folder of your own")
    return RecordError(f"cannot read {path}: {error}; remove that file (or fetch it anew) and run its cell again")


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing where there is none.

    Raises:
        RecordError: it may not be read, which a search for names would take for empty.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def read_part(path: Path) -> list[dict]:
    """Rows of a part file. The last line of a killed run may be torn and is then passed over; a file that is gone has no rows.

    Raises:
        RecordError: another line than the last is torn, or no row.
    """
    rows: list[dict] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:  # its cell has just been finished
        return rows
    except OSError as error:
        raise unreadable(path, error) from error
    for number, line in enumerate(lines, 1):
        try:
            rows.append(check_row(json.loads(line)))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise RecordError(
                    f"line {number} of {path} is torn or no row of records; remove that file and run its cell again"
                ) from error
    return rows


def read_cell(path: Path) -> pa.Table:
    """The rows of a finished or unfinished cell.

    Raises:
        RecordError: the file cannot be read, or is no table of records, each row of which stands there once.
    """
    if path.suffix != ".parquet":
        return pa.Table.from_pylist(read_part(path), schema=SCHEMA)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise RecordError(f"{path} is not a table of records: it has no column {missing}; move that file out of the folder")
        for name in (name for name in EXTRAS if name not in table.column_names):  # an older table
            table = table.append_column(name, pa.array([""] * len(table), pa.string()))
        table = table.select(list(COLUMNS | EXTRAS)).cast(SCHEMA)
    except RecordError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    if empty := [name for name, kind in COLUMNS.items() if kind is not float and table[name].null_count]:
        raise RecordError(f"{path} has empty entries in its column {empty}: it was changed; remove that file and run its cell again")
    if len(table.group_by(list(KEY)).aggregate([])) < len(table):
        raise RecordError(f"{path} holds rows twice: it was changed; remove that file and run its cell again")
    return table
