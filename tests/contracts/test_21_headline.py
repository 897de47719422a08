"""Promise 21: oblivious and adaptive results side by side; the lower one is the headline; without an adaptive one there is none."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_advdef.records import RecordWriter, read_records
from monai_advdef.report.card import build, finding
from monai_advdef.report.figures import forest, gains
from monai_advdef.report.scope import read_scope
from monai_advdef.report.tables import headline_table, markdown_table
from monai_advdef.report.verdicts import verdicts
from monai_advdef.stats import compare_family, headline, headline_cases


def rows(defense: str, adaptive: bool, values: list[float], attack: str = "PGD") -> pd.DataFrame:
    cases = [f"c{i}" for i in range(len(values))]
    base = {"case": cases, "patient": cases, "class": "lesion", "metric": "dice", "value": values, "attack": attack, "eps": 8.0}
    return pd.DataFrame({**base, "defense": defense, "adaptive": adaptive, "seed": 0})


def of(table: pd.DataFrame, defense: str) -> pd.Series:
    return table.set_index("defense").loc[defense]


def test_the_lower_of_the_two_is_the_headline_whichever_it_is():
    table = headline(
        pd.concat([
            rows("none", False, [0.2, 0.4]),
            rows("JPEG", False, [0.7, 0.6]), rows("JPEG", True, [0.2, 0.3]),
            rows("masked", False, [0.1, 0.3]), rows("masked", True, [0.6, 0.8]),
        ])
    )  # fmt: skip
    assert of(table, "JPEG")[["oblivious", "adaptive", "headline", "source"]].tolist() == pytest.approx(
        [0.65, 0.25, 0.25, "adaptive"]
    )
    assert of(table, "masked")[["oblivious", "adaptive", "headline", "source"]].tolist() == pytest.approx(
        [0.2, 0.7, 0.2, "oblivious"]
    )
    assert of(table, "none")[["oblivious", "adaptive", "headline"]].tolist() == pytest.approx([0.3, 0.3, 0.3])


def test_a_defence_that_nobody_who_knows_it_attacked_shows_the_gap():
    table = headline(pd.concat([rows("none", False, [0.2, 0.4]), rows("JPEG", False, [0.7, 0.6])]))
    assert np.isnan(of(table, "JPEG")["adaptive"]) and of(table, "JPEG")["source"] == "oblivious"


def test_without_a_defence_it_does_not_matter_how_the_rows_are_marked():
    for marks in ([False], [True], [False, True]):
        table = headline(pd.concat([rows("none", mark, [0.2, 0.4]) for mark in marks]))
        assert of(table, "none")[["oblivious", "adaptive", "headline"]].tolist() == pytest.approx([0.3, 0.3, 0.3])


SCORES = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@settings(deadline=None, max_examples=20)
@given(SCORES, SCORES, SCORES)
def test_the_headline_is_never_above_either_side_and_never_below_the_worst_case(oblivious, adaptive, weaker):
    table = pd.concat([rows("FR", False, oblivious), rows("FR", True, adaptive), rows("FR", True, weaker, attack="FGSM")])
    found = of(headline(table), "FR")
    assert found["headline"] == min(found["oblivious"], found["adaptive"])
    assert found["adaptive"] == pytest.approx(np.minimum(adaptive, weaker).mean())
    assert found["casewise"] == pytest.approx(np.min([oblivious, adaptive, weaker], axis=0).mean())
    assert found["casewise"] <= found["headline"] + 1e-12
    assert headline_cases(table)["value"].mean() == pytest.approx(found["headline"])


# ------------------------------------------------------------------ a defence that is not assessed


def recorded(folder):
    """Records of an undefended network, of JPEG that nobody who knows it attacked, and of FR that both attacked."""
    cells = {
        ("none", "none", False): 0.9, ("JPEG", "none", False): 0.88, ("FR", "none", False): 0.87,
        ("none", "PGD dice", True): 0.2, ("JPEG", "PGD dice", False): 0.712, ("FR", "PGD dice", False): 0.6,
        ("FR", "PGD dice through smooth 0.7", True): 0.31, ("FR", "PGD dice", True): 0.45,
    }  # fmt: skip
    for number, ((defense, attack, adaptive), value) in enumerate(cells.items()):
        attacked = attack != "none"
        about = {
            "task": "t", "model": "m", "attack": attack, "eps": 8.0 * attacked, "unit": "grey level" * attacked, "seed": 0,
            "norm": "linf" * attacked, "defense": defense, "adaptive": adaptive, "steps": 20 * attacked, "restarts": 1 * attacked,
            "forwards": 0, "backwards": 0, "linf": 8.0 * attacked, "l2": 1.0 * attacked, "seconds": 0.0, "suite": "",
            "fingerprint": f"{number:016x}", "budget": "8" * attacked, "weights": "w", "data": "d",
        }  # fmt: skip
        writer = RecordWriter(folder / "records", f"{number:016x}", {"weights": "w", "data": "d"})
        for case in range(8):
            own = {"case": f"c{case}", "patient": f"c{case}", "value": value + 0.01 * (case % 3 - 1)}
            writer.add([{**about, **own, "class": "lesion", "metric": metric} for metric in ("dice", "iou")])
        writer.close()
    return folder


def test_without_an_adaptive_attack_there_is_no_headline():
    table = headline(pd.concat([rows("none", False, [0.2, 0.4]), rows("JPEG", False, [0.7, 0.6]), rows("FR", True, [0.5, 0.3])]))
    assert np.isnan(of(table, "JPEG")["headline"]) and of(table, "JPEG")["oblivious"] == pytest.approx(0.65)
    assert of(table, "FR")["headline"] == pytest.approx(0.4)
    alone = rows("JPEG", False, [0.7, 0.6])
    assert len(headline_cases(alone)) == 0 and np.isnan(headline(alone)["headline"]).all()


def test_the_card_prints_not_assessed_in_place_of_the_number(tmp_path):
    scope = read_scope(recorded(tmp_path) / "records")
    table = {row["name"]: row for row in headline_table(scope)}
    jpeg = table["JPEG"]
    assert jpeg["oblivious"].mean == ".711" and jpeg["adaptive"] is None and jpeg["headline"] is None
    assert jpeg["p5"] == "not assessed"
    assert table["FR"]["adaptive"].mean == ".309" and table["FR"]["headline"] == "adaptive"
    assert scope.defenses == ["none", "FR", "JPEG"]
    assert "Not assessed, as nobody who knows it has attacked it: JPEG" in finding(scope) and ".711" not in finding(scope)
    found = {gain.name: gain for gain in gains(scope)}
    assert found["JPEG"].known is None and found["JPEG"].verdict == "not assessed" and found["FR"].verdict != "not assessed"
    assert "JPEG not assessed" in forest(scope, list(found.values()))
    adaptive = next(v for v in verdicts(scope) if v.name == "Adaptive")
    assert adaptive.status == "suspect" and "JPEG" in adaptive.text
    text = build(tmp_path).read_text()
    row = re.search(r'<tr><th scope="row">JPEG</th>.*?</tr>', text, re.S).group()
    assert row.count("not assessed") == 2 and "<b>" not in row


def test_tables_for_documents_say_not_assessed_where_the_adaptive_number_would_stand(tmp_path):
    lines = markdown_table(read_records(recorded(tmp_path) / "records")).splitlines()
    about = [line for line in lines if "| JPEG |" in line and "no attack" not in line]
    assert "| oblivious | 8 |" in about[1] and about[0].endswith("| JPEG | adaptive | – | not assessed | not assessed |")
    assert sum("not assessed" in line for line in lines) == 1


def test_an_attack_through_a_defence_is_compared_with_the_same_attack_without_one(tmp_path):
    table = read_records(recorded(tmp_path) / "records")
    tests = compare_family(table[table["metric"] == "dice"])
    through = tests[tests["attack"] == "PGD dice through smooth 0.7"].set_index("against")
    assert through.loc["undefended", "difference"] == pytest.approx(0.11)
