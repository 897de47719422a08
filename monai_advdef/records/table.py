"""Reading a folder of cells as one table."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa

from monai_advdef.records.files import CELL, RecordError, listed, read_cell, read_part, unreadable
from monai_advdef.records.rows import COLUMNS, EXTRAS, LABELS, SCHEMA


def finished(folder: str | Path, fingerprint: str) -> bool:
    """Whether the cell of this fingerprint has its finished table in the folder."""
    return (Path(folder) / f"{fingerprint}.parquet").is_file()


def unfinished(folder: str | Path) -> list[str]:
    """Fingerprints of the cells that were started and have no finished table."""
    parts = (path.name for path in listed(Path(folder) / "_unfinished") if path.name.endswith(".part.jsonl"))
    names = (name.removesuffix(".part.jsonl") for name in parts)
    return [name for name in names if CELL.fullmatch(name) and not finished(folder, name)]


def _short(table: pa.Table) -> pa.Table:
    """The table with each text once: a cell says the same of most of its rows."""
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    for name in texts:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    return table


def _cells(folder: Path) -> tuple[list[pa.Table], list[str]]:
    """The tables of a folder, and the names of files that look like cells and are none: copies, and placeholders of files elsewhere.

    A cell is called ``<fingerprint>.parquet`` and its rows carry that fingerprint.
    """
    tables, others = [], []
    for path in (path for path in listed(folder) if "parquet" in path.name.lower()):
        table = read_cell(path) if path.suffix == ".parquet" and CELL.fullmatch(path.stem) else None
        if table is None or set(table["fingerprint"].unique().to_pylist()) != {path.stem}:
            others.append(path.name)
        else:
            tables.append(_short(table))
    return tables, others


def read_records(source: str | Path, *, incomplete: bool = False) -> pd.DataFrame:
    """All rows of a folder of records, or of one of its files, with the columns and types of ``COLUMNS``, and those
    of ``EXTRAS`` that say something.

    Warns, by name, of files that it passes over and of unfinished cells; ``incomplete=True`` includes the rows these have.
    Raises :class:`RecordError` where there is nothing to read or a file is damaged.
    """
    folder = Path(source)
    if folder.is_file():
        return _frame(read_cell(folder))
    cells, others = _cells(folder)
    if others:
        warnings.warn(
            f"files of {folder} are passed over, for none is named as a cell that it holds: {', '.join(others)}; "
            "a file-sync service leaves such copies, and placeholders of what it has not fetched; remove or fetch them",
            stacklevel=2,
        )
    parts = [folder / "_unfinished" / f"{name}.part.jsonl" for name in unfinished(folder)]
    if parts:
        named = ", ".join(f"{path.name.removesuffix('.part.jsonl')} ({len(read_part(path))} rows)" for path in parts)
        fate = "their rows are included" if incomplete else "their rows are left out"
        warnings.warn(f"unfinished cells in {folder}: {named}; {fate}; run those cells again to complete them", stacklevel=2)
    cells += [_short(read_cell(path)) for path in parts] if incomplete else []
    if not cells:
        raise RecordError(f"no finished records in {folder}; run an evaluation with this folder as its records, or check the path")
    return _frame(pa.concat_tables(cells))


def _frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas has it, without the extra columns that say nothing."""
    frame = table.cast(SCHEMA).to_pandas()
    frame[list(EXTRAS)] = frame[list(EXTRAS)].fillna("")
    if frame["reference"].any():  # beside older rows, which were scored against labels
        frame["reference"] = frame["reference"].replace("", LABELS)
    return frame.astype(COLUMNS | EXTRAS).drop(columns=[name for name in EXTRAS if not frame[name].any()])


def read_provenance(folder: str | Path) -> dict[str, dict]:
    """Provenance of every finished cell, by fingerprint. Raises :class:`RecordError` where a file is damaged."""
    facts = {}
    for path in listed(Path(folder) / "_provenance"):
        if path.suffix != ".json" or not CELL.fullmatch(path.stem):  # a copy
            continue
        try:
            facts[path.stem] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise unreadable(path, error) from error
    return facts
