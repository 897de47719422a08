"""What a score was measured against: labels, or the model's own clean prediction; the two are never mixed, nor called the same."""

from __future__ import annotations

import re

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from engines import evaluator, items, network
from synthetic_records import frame, row

from monai_advdef import stats
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.handlers.gallery import Gallery
from monai_advdef.records import RecordWriter, add_verdicts, check_row, read_records
from monai_advdef.report import build, markdown_table
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


def test_without_labels_the_card_speaks_of_stability_alone(tmp_path):
    """Every heading, table and sentence that is shown; Dice stands once, where stability is explained."""
    attack = {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "HU", "steps": 10, "reference": "own prediction"}
    tables = [frame([1.0, 1.0, 1.0], reference="own prediction", **{"class": name}) for name in ("liver", "spleen")]
    tables += [frame([0.4, 0.5, 0.2], **attack, **{"class": name}) for name in ("liver", "spleen")]
    tables += [
        frame([0.3, 0.4, 0.1], **attack, metric="iou"),
        frame([20.0, 30.0, 10.0], **attack, metric="structure_ml", **{"class": "liver"}),
    ]
    tables += [
        frame([0.1, 0.1, 0.1], **{**attack, "attack": "ASMA", "eps": float("inf"), "norm": "unbounded"}, **{"class": "liver"})
    ]
    for index, tables_ in enumerate((tables[:2], tables[2:6], tables[6:])):
        with RecordWriter(tmp_path / "records", f"{index:04x}", {}) as writer:
            writer.add(pd.concat(tables_).assign(fingerprint=f"{index:04x}").to_dict("records"))
    add_verdicts(tmp_path, "0001", {"verdicts": [{"name": "Unbounded", "verdict": "ok", "evidence": "Dice .00", "numbers": {}}]})
    image, label = torch.rand(1, 12, 12), torch.zeros(1, 12, 12)
    gallery = Gallery(tmp_path / "gallery")
    gallery.start(
        {
            "fingerprint": "0001",
            "suite": "",
            "defense": "none",
            "adaptive": False,
            **{k: attack[k] for k in ("attack", "eps", "unit")},
        }
    )
    gallery.offer("c000", 0.4, image, image, label, label)
    gallery.finish()
    (tmp_path / "sex.csv").write_text("case,sex\nc000,F\nc001,M\nc002,M\n")
    text = build(tmp_path, groups=tmp_path / "sex.csv").read_text(encoding="utf-8")
    shown = re.sub(r"(?s)<style>.*?</style>|<script.*?</script>|<image [^>]*>", "", text)
    assert len(re.findall("Dice|IoU", shown)) == 1 + shown.count("stability (IoU)")
    assert "Stability: Dice with the model's own clean prediction.".replace("'", "&#39;") in shown or "own clean prediction" in shown
    headings = re.findall("<h2>(.*?)</h2>", shown)
    assert {"Stability under attack", "Stability by sex", "Stability against size of structure"} <= set(headings)
    assert "truth" not in shown and "true mask" not in shown and "accuracy, and a model that is wrong may be stable" in shown
    assert "clean stability is 1.000 and stability under attack .367" in shown
    table = markdown_table(read_records(tmp_path / "records"))
    assert "stability (IoU), % | stability (Dice), %" in table and "| Dice" not in table
