"""Results by groups of patients, out of a list as people have them; no name of a case is shown."""

from __future__ import annotations

import re

import numpy as np
import pytest
from synthetic_records import frame

from monai_advdef import stats
from monai_advdef.errors import DataError
from monai_advdef.records import RecordWriter
from monai_advdef.report import build
from monai_advdef.report.scope import read_scope
from monai_advdef.report.subgroups import FEW, read_groups, subgroups

ATTACK = {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "grey level", "steps": 10}
CASES = 50


def scores(seed: int, low: float) -> dict[str, float]:
    """By ``patient/case``, two cases a patient."""
    rng = np.random.default_rng(seed)
    return {f"p{k // 2:02d}/c{k:02d}": float(v) for k, v in enumerate(rng.uniform(low, low + 0.2, CASES))}


@pytest.fixture
def folder(tmp_path):
    tables = [("aa", scores(0, 0.7), {}), ("bb", scores(1, 0.3), ATTACK)]
    tables += [("cc", scores(2, 0.7), {"defense": "FR"}), ("dd", scores(3, 0.4), {**ATTACK, "defense": "FR", "adaptive": True})]
    for name, values, about in tables:
        with RecordWriter(tmp_path / "records", name, {}) as writer:
            writer.add(frame(values, fingerprint=name, **about).to_dict("records"))
    return tmp_path


def listed(folder, text: str, name: str = "groups.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def sexes() -> dict[str, str]:
    return {f"p{k // 2:02d}/c{k:02d}": "F" if k // 2 < 20 else "M" for k in range(CASES - 2)}


def test_a_group_has_the_mean_and_interval_of_its_cases(folder):
    """Against numpy and the bootstrap of the group's cases alone; a case that the list lacks is not stated."""
    path = listed(folder, "case,sex\n" + "".join(f"{case},{sex}\n" for case, sex in sexes().items()))
    (part,) = subgroups(read_scope(folder / "records"), path)
    assert part.title == "Dice by sex" and [row[:3] for row in part.rows] == [
        *(["F", "40", "20"], ["M", "8", "4"], ["not stated", "2", "1"])
    ]
    heads = ["clean, no defence", "under attack, no defence", "clean, FR", "under attack, FR"]
    assert part.heads == ["sex", "cases", "patients", *heads]
    groups = {**dict.fromkeys(scores(0, 0), "not stated"), **sexes()}
    for row in part.rows:
        for text, (seed, low) in zip(row[3:], ((0, 0.7), (1, 0.3), (2, 0.7), (3, 0.4))):
            values = {case: v for case, v in scores(seed, low).items() if groups[case] == row[0]}
            mean = np.mean(list(values.values()))
            ends = stats.bootstrap_interval(np.array(list(values.values())), np.array([case[:3] for case in values]))
            told = f"{mean:.3f}" + ("" if np.isnan(ends[0]) else f" ({ends[0]:.2f}–{ends[1]:.2f})")
            assert text == told.replace("0.", ".")
    assert part.faint == {1, 2} and f"fewer than {FEW} cases" in part.note and "(M and not stated)" in part.note


def test_the_card_shows_the_groups_and_no_names(folder):
    path = listed(folder, "\ufeffpatient;Sex;site <b>\n" + "".join(f"p{k:02d};{'F' if k % 2 else 'M'};A & B\n" for k in range(25)))
    text = build(folder, groups=path).read_text(encoding="utf-8")
    assert "<h2>Dice by Sex</h2>" in text and "<h2>Dice by site &lt;b&gt;</h2>" in text and "A &amp; B" in text
    assert '<tr class="faint">' not in text.split("Dice by Sex")[1].split("<h2>")[0]
    assert not re.search(r"\bc\d\d\b|\bp\d\d\b", text.split("<main>")[1].split("See for yourself")[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as a list of groups"),
        ("name,sex\na,F\n", "has the columns name, sex, none of them 'case' or 'patient'"),
        ("case\np00/c00\n", "has no column beside case; add one for each grouping"),
        ("case,sex\np00/c00,F\np00/c00,M\n", "puts 1 case into two groups"),
        ("case,sex\nx,F\n", "holds none of the 50 cases evaluated"),
        ("case,age\n" + "".join(f"p{k // 2:02d}/c{k:02d},{k}\n" for k in range(50)), "column age of .* makes 50 groups, at most 30"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_words(folder, text, said):
    path = listed(folder, text)
    with pytest.raises(DataError, match=said) as caught:
        build(folder, groups=path)
    assert "groups.csv" in str(caught.value) and "p00/c00" not in str(caught.value)


def test_a_list_that_is_not_there_is_named(folder):
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read as a list of groups .*; give a CSV file"):
        build(folder, groups=folder / "nowhere.csv")


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_lists_of_any_spreadsheet_are_read(tmp_path, between):
    rows = [("Patient", "case", "sex"), ("1", "01", " F "), ("1", "02", "F"), ("2", "1", "")]
    by, table = read_groups(listed(tmp_path, "\r\n".join(between.join(row) for row in rows)))
    assert by == "case" and table["sex"].to_dict() == {"01": "F", "02": "F", "1": "not stated"} and list(table) == ["sex"]
