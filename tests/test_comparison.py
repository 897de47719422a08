"""Models compared case by case: against scipy, by hand, and everything that is not alike told or refused."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.stats
from audit_records import scores, write_audit

from monai_advdef import stats
from monai_advdef.__main__ import main
from monai_advdef.comparison import build_page, compare, markdown_table, render, text_table
from monai_advdef.errors import DataError

COUNT = 14


def shifted(difference, noise=0.02, seed=9):
    made = scores(0.9, 0.6, cases=COUNT)
    made["worst"] = made["worst"] + difference + np.random.default_rng(seed).normal(0, noise, made["worst"].shape)
    return made


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    sides = {"a": scores(0.9, 0.6, cases=COUNT), "b": shifted(-0.1), "c": shifted(0.0, seed=4)}
    for index, (name, made) in enumerate(sides.items()):
        write_audit(folder / name, made, weights=f"w{index}", model=f"network {name}")
    return folder, sides


def test_against_scipy_and_by_hand(three):
    folder, sides = three
    found = compare([folder / "a", folder / "b", folder / "c"])
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    assert [(r.a, r.b) for r in found.rows] == pairs * 2
    assert [r.condition for r in found.rows] == ["standard (worst case), 5 HU"] * 3 + ["clean"] * 3
    raw = []
    for row in found.rows[:3]:
        a, b = (sides[name]["worst"].mean(1) for name in (row.a, row.b))
        test = scipy.stats.wilcoxon(a - b)
        ranks = scipy.stats.rankdata(abs(a - b))
        effect = (ranks * np.sign(a - b)).sum() / ranks.sum()
        assert row.p == pytest.approx(test.pvalue) and row.effect == pytest.approx(effect)
        assert (row.mean_a, row.mean_b, row.difference) == pytest.approx((a.mean(), b.mean(), (a - b).mean()))
        assert (row.ci_low, row.ci_high) == pytest.approx(stats.bootstrap_interval(a - b, np.arange(COUNT)))
        assert (row.n, row.patients, row.unpaired) == (COUNT, COUNT, 0) and row.least_p == 2 ** (1 - COUNT)
        raw.append(row.p)
    raw += [1.0] * 3  # clean, all are the same
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty(6)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.array(raw)[order] * np.arange(6, 0, -1)))
    assert [r.p_holm for r in found.rows] == pytest.approx(adjusted)
    assert [r.verdict for r in found.rows] == ["a better", "not separable", "c better", *["not separable"] * 3]


def test_the_order_of_the_sides_turns_the_sign_and_nothing_else(three):
    folder, _ = three
    there, back = (compare([folder / x, folder / y]).rows for x, y in (("a", "b"), ("b", "a")))
    for one, other in zip(there, back):
        assert one.difference == pytest.approx(-other.difference) and one.effect == pytest.approx(-other.effect)
        assert (one.ci_low, one.p, one.verdict) == (pytest.approx(-other.ci_high), pytest.approx(other.p), other.verdict)


def test_where_less_is_better_the_lower_side_wins(tmp_path):
    far = np.random.default_rng(1).uniform(5, 6, (COUNT, 2))
    for name, distance in (("near", far - 3), ("far", far)):
        hd95 = {"clean": distance, "worst": distance}
        write_audit(tmp_path / name, scores(0.9, 0.6, cases=COUNT), more={"hd95_mm": hd95})
    found = compare([tmp_path / "near", tmp_path / "far"], metric="hd95_mm")
    assert {r.verdict for r in found.rows} == {"near better"} and found.rows[0].difference == pytest.approx(-3)
    assert "−3.00" in text_table(found) and "hd95_mm, lower is better" in text_table(found)
    same = compare([tmp_path / "near", tmp_path / "far"])
    assert {r.verdict for r in same.rows} == {"not separable"} and same.rows[0].difference == 0


def test_patients_are_the_unit_of_test_and_interval(tmp_path):
    made, other = scores(0.9, 0.6, cases=COUNT), shifted(-0.05)
    for name, values in (("a", made), ("b", other)):
        write_audit(tmp_path / name, values, per_patient=2)
    row = compare([tmp_path / "a", tmp_path / "b"]).rows[0]
    differences = (made["worst"] - other["worst"]).mean(1).reshape(-1, 2).mean(1)
    assert (row.n, row.patients) == (COUNT, COUNT // 2)
    assert row.p == pytest.approx(scipy.stats.wilcoxon(differences).pvalue)


def test_too_few_patients_to_show_anything_are_told(tmp_path):
    for name, values in (("a", scores(0.9, 0.6, cases=4)), ("b", scores(0.9, 0.1, cases=4))):
        write_audit(tmp_path / name, values)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert {r.verdict for r in found.rows} == {"not separable"}
    assert any("with 4 patients and 2 comparisons the corrected p is at least 0.25" in note for note in found.notes)


def test_what_is_not_common_is_left_out_and_told(tmp_path):
    values = scores(0.9, 0.6, cases=COUNT)
    write_audit(tmp_path / "a", values, task="spleen", classes=("liver", "spleen"))
    write_audit(tmp_path / "a", {"worst": values["worst"] - 0.2}, task="spleen", classes=("liver", "spleen"), eps=8.0)
    lost = {key: value[2:].copy() for key, value in values.items()}
    lost["worst"][0, 1] = np.nan
    names = [f"c{i:03d}" for i in range(2, COUNT)]
    write_audit(tmp_path / "b", lost, names=names, data="d2", classes=("kidney", "spleen"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert (found.cases, found.classes) == (COUNT - 2, ["spleen"]) and found.rows[0].n == COUNT - 3 and found.rows[0].unpaired == 1
    expected = [
        "classes of a left out, for not all sides have them: liver",
        "classes of b left out, for not all sides have them: kidney",
        "2 cases of a left out, for not all sides have them: c000, c001",
        "of a alone, and not compared: standard (worst case), 8 HU",
        "the tasks are called differently (a: spleen; b: abdomen); only classes of one name are compared",
        "the images as loaded are not the same on all sides",
    ]
    for text in expected:
        assert any(text in note for note in found.notes), (text, found.notes)
    assert "1 pair of case and class left out" in markdown_table(found)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"names": [f"x{i}" for i in range(COUNT)]}, "no case is on all sides"),
        ({"classes": ("lung", "heart")}, "no class is on all sides, so the models do different tasks"),
        ({"unit": "grey level"}, "no attack of one size, unit and norm is on all sides.*audit the models with the same suite"),
        ({"digest": "d2"}, "no attack of one size.*suites of this name are different ones"),
        ({"per_patient": 7}, "do not agree which cases are of one patient"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, three, options, told):
    folder, _ = three
    write_audit(tmp_path / "x", scores(0.9, 0.6, cases=COUNT), **options)
    with pytest.raises(DataError) as caught:
        compare([folder / "a", tmp_path / "x"])
    assert re.search(told, str(caught.value), re.DOTALL), caught.value


def test_folders_that_are_none(tmp_path, three):
    folder, _ = three
    for given, told in (
        ([folder / "a"], "give two to 6 output folders"),
        ([folder / "a"] * 2, "is given twice"),
        ([folder / "a", tmp_path], "there are no records in"),
        ([folder / "a", next((folder / "b" / "records").glob("*.parquet"))], "is a file; give the output folder"),
    ):
        with pytest.raises(DataError, match=told):
            compare(given)
    with pytest.raises(DataError, match="no measure is called 'dise'; did you mean 'dice'"):
        compare([folder / "a", folder / "b"], metric="dise")
    with pytest.raises(DataError, match="a has no nsd; recorded: dice"):
        compare([folder / "a", folder / "b"], metric="nsd")


def test_folders_of_one_name_are_told_apart(tmp_path):
    for name in ("x/out", "y/out"):
        write_audit(tmp_path / name, scores(0.9, 0.6, cases=COUNT))
    found = compare([tmp_path / "x/out", tmp_path / "y/out/records"])
    assert [side["name"] for side in found.sides] == ["x/out", "y/out"]
    assert any("have the same weights" in note for note in found.notes)


def test_each_side_with_a_defence_of_its_own(tmp_path):
    """One deployment a side: they are compared whatever they are called; the lower of the two attackers counts."""
    made = scores(0.9, 0.6, cases=COUNT)
    write_audit(tmp_path / "bare", made)
    write_audit(tmp_path / "jpeg", {"clean": made["clean"], "worst": made["worst"] + 0.1}, defense="JPEG(85)")
    write_audit(tmp_path / "jpeg", {"worst": made["worst"] - 0.1}, defense="JPEG(85)", adaptive=True)
    assert compare([tmp_path / "bare", tmp_path / "jpeg"]).rows[0].difference == pytest.approx(0.1)
    write_audit(tmp_path / "naive", {"clean": made["clean"], "worst": made["worst"] + 0.1}, defense="JPEG(85)")
    with pytest.raises(DataError, match="no attack of one size"):
        compare([tmp_path / "bare", tmp_path / "naive"])


def test_without_labels_stability_is_compared_and_never_with_accuracy(tmp_path, three):
    folder, sides = three
    for name in ("a", "b"):
        values = {"clean": np.ones((COUNT, 2)), "worst": sides[name]["worst"]}
        write_audit(tmp_path / name, values, reference="own prediction", weights=name)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.measure == "stability" and [r.condition for r in found.rows] == ["standard (worst case), 5 HU"]
    assert found.rows[0].difference == pytest.approx((sides["a"]["worst"] - sides["b"]["worst"]).mean())
    assert any("which says nothing about accuracy" in note for note in found.notes)
    assert "stability, higher is better" in text_table(found) and "Dice" not in text_table(found)
    with pytest.raises(DataError, match="scores are about different things"):
        compare([folder / "a", tmp_path / "b"])
    with pytest.raises(DataError, match="so there is no dice: each model was compared with itself"):
        compare([tmp_path / "a", tmp_path / "b"], metric="dice")


class Page(HTMLParser):
    """Everything that a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched, self.words, self.dots = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]
        self.dots += tag == "circle"

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone_and_says_the_result(tmp_path, three):
    folder, _ = three
    found = compare([folder / "a", folder / "b", folder / "c"])
    path = build_page(found, tmp_path / "deep" / "compare.html")
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.fetched and "http" not in text and "<script" not in text and len(text) < 3_000_000
    assert page.dots == len(found.rows)
    told = " ".join(page.words)
    assert (
        f"a is better than b by {found.rows[0].difference:.3f}".replace("0.", ".") in told
        and "a and c are not separable" in told
        and "Holm over 6 comparisons" in told
    )


def test_names_cannot_write_into_the_page(tmp_path):
    for name in ("<script>alert(1)</script>", "b|c"):
        write_audit(tmp_path / name, scores(0.9, 0.6, cases=COUNT), model="<img src=x>")
    found = compare([tmp_path / "<script>alert(1)<" / "script>", tmp_path / "b|c"])
    page = render(found)
    assert "<img" not in page and "<script" not in page
    rows = [line for line in markdown_table(found).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {12} and "<" not in "".join(rows)


def test_json_is_strict_and_whole(tmp_path):
    for name in ("a", "b"):
        write_audit(tmp_path / name, scores(0.9, 0.6, cases=3), per_patient=3)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert math.isnan(found.rows[0].ci_low)
    told = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert told["rows"][0]["ci_low"] is None and told["correction"] == "Holm over 2 comparisons" and told["level"] == 0.05
    assert "–" in text_table(found) and render(found)


# ------------------------------------------------------------------ the verb


def test_the_verb_prints_and_writes(tmp_path, three, capsys, monkeypatch):
    folder, _ = three
    monkeypatch.chdir(tmp_path)
    pair = [str(folder / "a"), str(folder / "b")]
    assert main(["compare", *pair]) == 0
    out = capsys.readouterr().out
    assert (
        out.splitlines()[0].startswith("attack ") and out.splitlines()[-1] == "compare.html" and (tmp_path / "compare.html").exists()
    )
    (tmp_path / "compare.html").unlink()
    assert main(["compare", *pair, "--json"]) == 0 and json.loads(capsys.readouterr().out)["measure"] == "dice"
    assert main(["compare", *pair, "--markdown"]) == 0 and capsys.readouterr().out.startswith("| attack |")
    assert not list(tmp_path.iterdir())
    assert main(["compare", *pair, "--json", "--out", "x.html"]) == 0 and json.loads(capsys.readouterr().out)
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_the_verb_refuses_in_words(tmp_path, three, capsys):
    folder, _ = three
    assert main(["compare", str(folder / "a"), str(tmp_path / "nowhere")]) == 2
    assert "there are no records in" in capsys.readouterr().err


def test_the_verb_ends_with_one_where_a_check_doubts(tmp_path, three, capsys, monkeypatch):
    folder, _ = three
    monkeypatch.chdir(tmp_path)
    write_audit(tmp_path / "x", shifted(0.1), checks=[{"name": "masking", "verdict": "suspect", "evidence": "zero gradients"}])
    assert main(["compare", str(folder / "a"), "x"]) == 1
    out, err = capsys.readouterr()
    assert "check masking of x: suspect, zero gradients" in err and "suspect" in out


def test_the_verb_needs_no_torch(three, tmp_path):
    folder, _ = three
    pair = [str(folder / "a"), str(folder / "b")]
    script = f"import sys; from monai_advdef.__main__ import main; main(['compare', *{pair!r}, '--json'])"
    script += "; print([m for m in ('torch', 'monai', 'mlflow') if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
