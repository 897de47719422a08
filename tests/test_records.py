from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_records import row

from monai_advdef.records import COLUMNS, RecordError, RecordWriter, fingerprint, finished, read_provenance, read_records, unfinished

NAMES = (
    "case patient task model class metric value attack eps unit norm defense adaptive steps restarts forwards backwards linf l2 "
    "seconds seed suite fingerprint"
)


def test_the_columns_are_those_of_the_contract():
    assert list(COLUMNS) == NAMES.split()


def test_round_trip_keeps_every_value_and_type(tmp_path):
    rows = [
        row(attack="PGD", eps=np.float32(8), norm="linf", adaptive=np.bool_(True), steps=np.int64(10), value=float("nan")),
        row(attack="ASMA", eps=float("inf"), norm="unbounded", case="ä/1", linf=43.5),
    ]
    with RecordWriter(tmp_path / "records", "abc123", {"command": "x"}) as writer:
        writer.add(rows[:1])
        writer.add(rows[1:])
    table = read_records(tmp_path / "records")
    assert list(table) == NAMES.split()
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows).astype(COLUMNS))
    assert (table["eps"].dtype, table["adaptive"].dtype, table["steps"].dtype) == (np.float64, np.bool_, np.int64)
    pd.testing.assert_frame_equal(read_records(tmp_path / "records" / "abc123.parquet"), table)


def test_the_folder_is_one_table_for_plain_pandas_even_beside_unfinished_cells(tmp_path):
    for name in ("aaa1", "bbb2"):
        with RecordWriter(tmp_path, name, {"command": name}) as writer:
            writer.add([row(fingerprint=name)])
    RecordWriter(tmp_path, "ccc3", {}).add([row(fingerprint="ccc3")])
    assert sorted(pd.read_parquet(tmp_path)["fingerprint"]) == ["aaa1", "bbb2"]
    facts = read_provenance(tmp_path)
    assert {name: entry["command"] for name, entry in facts.items()} == {"aaa1": "aaa1", "bbb2": "bbb2"}
    assert all("recorded" in entry for entry in facts.values())


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from synthetic_records import row
from monai_advdef.records import RecordWriter
writer = RecordWriter({folder!r}, "abc123", {{}})
writer.add([row(case="c1"), row(case="c2")])
os.kill(os.getpid(), 9)
"""


def test_a_killed_run_keeps_its_rows_and_starts_afresh(tmp_path):
    code = KILLED.format(tests=str(__file__).rsplit("/", 1)[0], folder=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert unfinished(tmp_path) == ["abc123"] and not finished(tmp_path, "abc123")
    with (tmp_path / "_unfinished" / "abc123.part.jsonl").open("a") as file:
        file.write('{"case": "c3", "torn')
    with pytest.warns(UserWarning, match=r"abc123 \(2 rows\).*included"):
        assert list(read_records(tmp_path, incomplete=True)["case"]) == ["c1", "c2"]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(RecordError, match="no finished records"):
        read_records(tmp_path)
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row(case="c1")])
    assert list(read_records(tmp_path)["case"]) == ["c1"]
    assert finished(tmp_path, "abc123") and unfinished(tmp_path) == []


def test_a_failing_rerun_leaves_the_finished_table_alone(tmp_path):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row(value=0.5)])
    with pytest.raises(RuntimeError), RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row(value=0.1)])
        raise RuntimeError("the evaluation failed")
    assert list(read_records(tmp_path)["value"]) == [0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "0.9"}, "value must be of type float, got '0.9'"),
        ({"adaptive": 1}, "adaptive must be of type bool"),
        ({"steps": 2.0}, "steps must be of type int"),
        ({"seed": True}, "seed must be of type int"),
        ({"case": 3}, "case must be of type str"),
        ({"value": 92.0}, "value of dice must lie in 0..1, got 92.0; record fractions"),
        ({"attack": "PGD", "eps": -1.0}, "eps must be >= 0"),
        ({"attack": "PGD", "eps": float("nan")}, "eps must be >= 0"),
        ({"eps": 8.0}, "a clean row .* got eps 8.0"),
        ({"dice": 0.9}, r"not known \['dice'\]"),
        ({"fingerprint": "f00"}, "fingerprint of a row is 'f00'"),
    ],
)
def test_a_wrong_row_is_named_and_not_written(tmp_path, change, message):
    writer = RecordWriter(tmp_path, "abc123", {})
    with pytest.raises(ValueError, match=message):
        writer.add([row(), row(**change)])
    assert (tmp_path / "_unfinished" / "abc123.part.jsonl").read_text() == ""


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing \['seed'\]"):
        RecordWriter(tmp_path, "abc123", {}).add([{key: value for key, value in row().items() if key != "seed"}])


def test_a_cell_without_rows_and_a_wrong_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows were recorded for cell abc123"), RecordWriter(tmp_path, "abc123", {}):
        pass
    with pytest.raises(ValueError, match="hexadecimal"):
        RecordWriter(tmp_path, "../escape", {})


def test_a_full_disk_names_the_file_and_the_remedy(tmp_path):
    (tmp_path / "_unfinished").mkdir()
    (tmp_path / "_unfinished" / "abc123.part.jsonl").symlink_to("/dev/full")
    with pytest.raises(RecordError, match=r"cannot write .*abc123.part.jsonl: No space left.*free some space.*stay in"):
        with RecordWriter(tmp_path, "abc123", {}) as writer:
            writer.add([row()])


def test_an_unwritable_folder_names_the_file_and_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write .*choose another output folder"):
        RecordWriter(tmp_path / "file", "abc123", {})


def test_closing_on_a_full_disk_leaves_the_rows_in_place(tmp_path):
    writer = RecordWriter(tmp_path, "abc123", {})
    writer.add([row()])
    (tmp_path / "abc123.parquet").mkdir()
    with pytest.raises(RecordError, match=r"cannot write .*abc123.parquet.*stay in .*abc123.part.jsonl"):
        writer.close()
    (tmp_path / "abc123.parquet").rmdir()
    with pytest.warns(UserWarning, match="unfinished"):
        assert len(read_records(tmp_path, incomplete=True)) == 1


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(RecordError, match="no finished records in .*check the path"):
        read_records(tmp_path / "nowhere")
    (tmp_path / "aa.parquet").write_text("not parquet")
    with pytest.raises(RecordError, match="cannot read .*aa.parquet.*remove that file"):
        read_records(tmp_path)
    pd.DataFrame({"case": ["c1"]}).to_parquet(tmp_path / "aa.parquet")
    with pytest.raises(RecordError, match="aa.parquet is not a table of records: it has no column"):
        read_records(tmp_path)
    (tmp_path / "_provenance").mkdir()
    (tmp_path / "_provenance" / "aa.json").write_text("{")
    with pytest.raises(RecordError, match="cannot read .*aa.json"):
        read_provenance(tmp_path)


# -- neighbours: a second writer, and copies


WRITES = """
import sys, time
sys.path.insert(0, {tests!r})
from synthetic_records import row
from monai_advdef.records import RecordWriter
with RecordWriter({folder!r}, "abc123", {{}}) as writer:
    for case in ("c1", "c2", "c3"):
        writer.add([row(case=case)])
        print(case, flush=True)
        time.sleep({pause})
"""


def writes(folder, pause=0.3):
    code = WRITES.format(tests=str(__file__).rsplit("/", 1)[0], folder=str(folder), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_start_of_a_cell_waits_and_ends_with_the_same_table(tmp_path):
    first = writes(tmp_path)
    assert first.stdout.readline() == "c1\n"
    jobs = [first, *(writes(tmp_path, 0.0) for _ in range(2))]
    told = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 3, told
    assert list(read_records(tmp_path)["case"]) == ["c1", "c2", "c3"]
    assert not list((tmp_path / "_unfinished").iterdir())


def test_a_second_start_takes_over_from_one_that_was_killed(tmp_path):
    first = writes(tmp_path, 60)
    assert first.stdout.readline() == "c1\n"
    second = writes(tmp_path, 0.0)
    first.send_signal(signal.SIGKILL)
    assert second.wait() == 0 and first.wait() == -signal.SIGKILL
    assert list(read_records(tmp_path)["case"]) == ["c1", "c2", "c3"] and not list((tmp_path / "_unfinished").iterdir())


def test_a_second_writer_in_this_process_is_refused_with_the_first_one_named(tmp_path):
    first = RecordWriter(tmp_path, "abc123", {})
    first.add([row(case="c1")])
    with pytest.raises(RecordError, match=rf"cell abc123 of .*this very process \({os.getpid()} on .*close or release"):
        RecordWriter(tmp_path, "abc123", {})
    first.add([row(case="c2")])
    first.close()
    assert list(read_records(tmp_path)["case"]) == ["c1", "c2"]


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.unlink(),
        lambda part: part.write_text(""),
        lambda part: part.write_text(part.read_text().replace("0.5", "0.9")),
        lambda part: part.write_text(part.read_text() + '{"case": "c3", "torn'),
    ],
    ids=["gone", "emptied", "a value changed", "torn"],
)
def test_rows_that_somebody_else_changed_make_no_table(tmp_path, change):
    with RecordWriter(tmp_path, "abc123", {}) as writer:
        writer.add([row(value=0.5)])
    writer = RecordWriter(tmp_path, "abc123", {})
    writer.add([row(value=0.5), row(case="c2", value=0.5)])
    change(tmp_path / "_unfinished" / "abc123.part.jsonl")
    with pytest.raises(RecordError, match="abc123.part.jsonl does not hold the .* written.*no table is made of it; run this again"):
        writer.close()
    assert list(read_records(tmp_path / "abc123.parquet")["case"]) == ["c1"]  # the former table


def test_a_line_torn_in_the_middle_is_told(tmp_path):
    writer = RecordWriter(tmp_path, "abc123", {})
    writer.add([row()])
    writer.release()
    part = tmp_path / "_unfinished" / "abc123.part.jsonl"
    part.write_text('{"torn\n' + part.read_text())
    with pytest.raises(RecordError, match="line 1 of .*abc123.part.jsonl is torn or no row of records; remove"):
        read_records(tmp_path, incomplete=True)


COPIES = ["abc123 (conflicted copy 2026-11-26).parquet", "abc123 (1).parquet", "abc123-DESKTOP-1.parquet", "Copy of abc123.parquet"]
COPIES += ["ABC123.PARQUET", "abc123 2.parquet", "abc123.sync-conflict-20261126-1.parquet", "beef.parquet"]
COPIES += [".syncthing.abc123.parquet.tmp"]


def test_copies_of_a_cell_are_passed_over_by_name_and_counted_once(tmp_path):
    with RecordWriter(tmp_path, "abc123", {"command": "x"}) as writer:
        writer.add([row(case="c1"), row(case="c2")])
    alone = read_records(tmp_path)
    for name in COPIES:
        shutil.copy(tmp_path / "abc123.parquet", tmp_path / name)
    (tmp_path / "._abc123.parquet").write_bytes(b"\0\5\x16\7" + bytes(4000))
    (tmp_path / ".dead.parquet.icloud").write_bytes(b"bplist00")
    (tmp_path / "_provenance" / "abc123 (1).json").write_text("{")
    with pytest.warns(UserWarning, match="files of .* are passed over.*remove or fetch them") as told:
        pd.testing.assert_frame_equal(read_records(tmp_path), alone)
    assert len(told) == 1 and all(name in str(told[0].message) for name in [*COPIES, ".dead.parquet.icloud"])
    assert list(read_provenance(tmp_path)) == ["abc123"]
    shutil.copy(tmp_path / "abc123.parquet", tmp_path / "_unfinished" / "abc123 (1).part.jsonl")
    assert unfinished(tmp_path) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_fingerprint_depends_on_content_only(config):
    name = fingerprint(config)
    assert len(name) == 16 and int(name, 16) >= 0
    assert fingerprint(dict(reversed(list(config.items())))) == name
    assert fingerprint(json.loads(json.dumps(config))) == name
    assert fingerprint({**config, "one more key": 1}) != name


def test_fingerprint_is_stable_and_knows_equal_numbers():
    assert fingerprint({"eps": 8, "steps": [30, 5]}) == fingerprint({"steps": (30, 5), "eps": 8.0}) == "f6096aac2eef4f0f"
    assert fingerprint({"eps": 8.5}) != fingerprint({"eps": 8})
    with pytest.raises(TypeError, match=r"config.attack\[1\] is .* not plain JSON"):
        fingerprint({"attack": [1, {2, 3}]})
