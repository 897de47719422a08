"""What a score was measured against: labels, or the model's own clean prediction; the two are never mixed, nor called the same."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest
from engines import evaluator, items, network
from synthetic_records import frame, row

from monai_advdef import stats
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.records import RecordWriter, check_row, read_records
from monai_advdef.report.scope import read_scope


@pytest.mark.parametrize(("told", "expected"), [({}, "labels"), ({"reference": "own prediction"}, "own prediction")])
def test_the_handler_writes_what_the_scores_are_against(trained, tmp_path, told, expected):
    attack = AttackHandler("FGSM", eps=2.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False, **told)
    evaluate(evaluator(network(trained), [records, attack], data=items(2)), attack, records)
    assert set(read_records(tmp_path / "records")["reference"]) == {expected}


def test_an_evaluation_against_something_else_is_another_one(trained, tmp_path):
    names = set()
    for reference in ("labels", "own prediction"):
        records = RecordHandler(tmp_path, ["lesion"], gallery=False, card=False, keep={"reference": reference})
        evaluate(evaluator(network(trained), [records], data=items(2)), records=records)
        names.add(records.fingerprint)
    assert len(names) == 2 and len(read_records(tmp_path / "records")) == 8


def test_an_unknown_reference_is_refused_in_words():
    with pytest.raises(ValueError, match="no reference 'own predictions'; did you mean 'own prediction'"):
        RecordHandler("somewhere", ["lesion"], reference="own predictions")
    with pytest.raises(ValueError, match="reference must be one of"):
        check_row(row(reference="truth"))


def test_older_tables_were_scored_against_labels(tmp_path):
    """A file without the column beside one with it."""
    for name, extra in (("aa", {}), ("bb", {"reference": "own prediction"})):
        with RecordWriter(tmp_path, name, {}) as writer:
            writer.add([row(fingerprint=name, case="c", attack="PGD", eps=1.0, defense=name, **extra)])
    old = pq.read_table(tmp_path / "aa.parquet").drop_columns(["reference"])
    pq.write_table(old, tmp_path / "aa.parquet")
    assert dict(read_records(tmp_path).groupby("fingerprint")["reference"].first()) == {"aa": "labels", "bb": "own prediction"}
    (tmp_path / "bb.parquet").unlink()
    assert "reference" not in read_records(tmp_path)


def test_scores_against_labels_and_against_own_predictions_are_not_averaged(tmp_path):
    both = [frame([0.9, 0.8], reference="labels"), frame([1.0, 1.0], reference="own prediction")]
    with pytest.raises(ValueError, match="rows differ in 'reference'"):
        stats.per_case(pd.concat(both))
    for index, table in enumerate(both):
        with RecordWriter(tmp_path, f"{index:04x}", {"recorded": f"2026-01-0{index + 1}"}) as writer:
            writer.add(table.assign(fingerprint=f"{index:04x}").to_dict("records"))
    scope = read_scope(tmp_path)
    assert set(scope.every["reference"]) == {"own prediction"} and scope.others == ("1 run scored against labels",)
