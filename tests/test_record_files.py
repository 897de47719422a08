"""Tables and provenance that other software changed, and places that cannot be written or read: told by name, with the remedy."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pyarrow.parquet as pq
import pytest
from synthetic_records import row

from monai_advdef.records import RecordError, RecordWriter, read_provenance, read_records


def doubled(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (doubled, "holds rows twice.*remove that file and run its cell again"),
        (lambda table: table.assign(steps=None), r"has empty entries in its column \['steps'\].*remove that file"),
        (lambda table: table.assign(value="high"), "cannot read .*Failed to parse.*remove that file"),
    ],
    ids=["rows twice", "an empty column", "text for a number"],
)
def test_a_table_that_was_changed_by_other_software_is_told_by_its_name(tmp_path, change, message):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row(), row(case="c2")])
    table = tmp_path / "abc123.parquet"
    change(pd.read_parquet(table)).to_parquet(table)
    with pytest.raises(RecordError, match=message):
        read_records(tmp_path)


@pytest.mark.parametrize("text", ["null", "[1]", "12", '{"config": '])
def test_provenance_that_is_no_dictionary_is_told_by_its_name(tmp_path, text):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row()])
    (tmp_path / "_provenance" / "abc123.json").write_text(text)
    with pytest.raises(RecordError, match="cannot read .*abc123.json.*remove that file"):
        read_provenance(tmp_path)


@pytest.mark.parametrize("where", ["abc123.parquet", "_provenance/abc123.json"])
def test_a_folder_in_the_place_of_a_table_is_told_before_the_work(tmp_path, where):
    (tmp_path / where).mkdir(parents=True)
    with pytest.raises(RecordError, match=f"cannot write .*{where}: Is a directory; a folder stands where a file is wanted"):
        RecordWriter(tmp_path, "abc123", {})


def test_what_may_not_be_read_is_not_said_to_be_removed(tmp_path, monkeypatch):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row()])
    for owner, name in ((pq, "ParquetFile"), (Path, "read_text")):
        monkeypatch.setattr(owner, name, Mock(side_effect=PermissionError(13, "Permission denied")))
    for read in (read_records, read_provenance):
        with pytest.raises(RecordError, match="cannot read .*abc123.*permission denied; ask for the right to read it"):
            read(tmp_path)


@pytest.mark.parametrize("folder", ["", "_unfinished", "_provenance"])
def test_a_folder_that_may_not_be_read_is_not_taken_for_empty(tmp_path, monkeypatch, folder):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row()])
    iterdir, closed = Path.iterdir, tmp_path / folder

    def denied(self):
        if self == closed:
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(RecordError, match=f"cannot read {closed}: permission denied; ask for the right to read it"):
        (read_provenance if folder == "_provenance" else read_records)(tmp_path)


def test_a_part_file_that_holds_no_rows_is_told_by_its_line(tmp_path):
    (tmp_path / "_unfinished").mkdir()
    (tmp_path / "_unfinished" / "abc123.part.jsonl").write_text('12\n{"case": "c1"}\n')
    with pytest.raises(RecordError, match="line 1 of .*abc123.part.jsonl is torn or no row of records; remove that file"):
        read_records(tmp_path, incomplete=True)
