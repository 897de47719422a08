"""The evidence page: complete, escaped, careful in its words, the same in three forms, and on one side of A4."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, opened, printed
from synthetic_records import frame, rows_of, write_study

from monai_advdef import stats
from monai_advdef.records import RecordError, RecordWriter, add_verdicts
from monai_advdef.report import build, build_evidence, words
from monai_advdef.report.evidence.page import plain_markdown, print_size

ATTACK = {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "grey level", "steps": 10}
AUDIT = {
    "model": {"name": "spleen <b>", "kind": "MONAI bundle"},
    "facts": [{"field": "unit", "value": "HU", "source": "validate#preprocessing"}, {"field": "range", "value": [-57, 164]}, "odd"],
    "notes": ["attacked at the network's input, with the local scale | <script>alert(1)</script>"],
    "gates": [
        {"expression": "dice@8 >= 0.6", "passed": False, "value": 0.41, "interval": [0.3, 0.5], "n": 12, "reason": "below"},
        {"name": "clean >= 0.5", "passed": True, "value": 0.9, "interval": None},
    ],
    "exit_code": 1,
    "versions": {"monai": "1.6.1"},
}
FORMS = ("html", "json", "md")


def forms(folder: Path) -> dict[str, str]:
    path = build_evidence(folder)
    assert path == folder / "evidence.html"
    return {end: path.with_suffix(f".{end}").read_text(encoding="utf-8") for end in FORMS}


def small(folder: Path, **more) -> Path:
    """A clean and an attacked cell of three cases."""
    for name, values, about in (("aa", [0.9, 0.8, 0.7], {}), ("bb", [0.5, 0.4, 0.0], ATTACK)):
        facts = {
            "weights": "4f1c" * 16,
            "data": "ab12" * 16,
            "versions": {"monai_advdef": "0.1.0"},
            "command": "monai-advdef audit X",
        }
        with RecordWriter(folder / "records", name, facts) as writer:
            writer.add(frame(values, fingerprint=name, **about, **more).to_dict("records"))
    return folder


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("evidence")
    write_study(folder)
    (folder / "audit.json").write_text(json.dumps(AUDIT), encoding="utf-8")
    return folder, forms(folder)


def test_the_results_are_those_of_the_statistics(tmp_path):
    """Clean and under attack, against numpy; the interval against the bootstrap by itself."""
    told = json.loads(forms(small(tmp_path))["json"])
    by = {entry["what"]: entry for entry in told["results"]}
    for what, values in (("clean", [0.9, 0.8, 0.7]), ("under attack", [0.5, 0.4, 0.0])):
        assert by[what]["mean"] == pytest.approx(np.mean(values)) and by[what]["n"] == 3
        assert by[what]["p5"] == pytest.approx(np.percentile(values, 5))
        low, high = stats.bootstrap_interval(np.array(values), np.array(["c000", "c001", "c002"]))
        assert (by[what]["ci_low"], by[what]["ci_high"]) == pytest.approx((low, high))
    assert by["under attack"]["headline"] and by["under attack"]["attacks"] == ["PGD-10"]
    assert by["clean"]["eps"] is None and not by["clean"]["headline"]


def test_a_reader_finds_what_was_tested_on_what_by_which_version(tmp_path):
    for text in forms(small(tmp_path)).values():
        for said in ("4f1c" * 16, "ab12" * 16, "0.1.0", "monai-advdef audit X", "reference labels"):
            assert said in text
    told = json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))
    assert told["on"] == {"cases": 3, "patients": 3, "data": ["ab12" * 16], "reference": "reference labels"}
    assert told["tested"]["weights"] == ["4f1c" * 16] and told["by"]["versions"] == {"monai_advdef": ["0.1.0"]}


def test_every_form_says_the_same_of_the_texts_and_of_what_is_not_covered(evidence):
    told = json.loads(evidence[1]["json"])
    parts = {(p["text"].split(",")[0], p["part"].split(",")[0]) for p in told["speaks_to"]}
    assert {("EU AI Act", f"Article 15({k})") for k in (1, 4, 5)} <= parts
    assert {text for text, _ in parts} == {
        *("EU AI Act", "FDA draft guidance", "AAMI CR515:2025", "ISO/IEC TR 24029-1:2021", "ISO/IEC 24029-2:2023")
    }
    assert len(told["does_not_cover"]) >= 6 and len({p["sentence"] for p in told["speaks_to"]}) == len(told["speaks_to"])
    page = " ".join(re.sub(r"<[^>]+>", "", evidence[1]["html"]).split())
    for sentence in [*(p["sentence"] for p in told["speaks_to"]), *told["does_not_cover"]]:
        assert sentence.replace("'", "&#39;") in page and plain_markdown(sentence) in evidence[1]["md"]
    everything = " ".join(evidence[1].values()).lower()
    for claim in ("complies", "compliant", "fulfils", "certified", "conforms", "guarantee", "proven", "is safe"):
        assert claim not in everything, claim
    for word in ("patches", "physical", "other scanners", "clinical safety", "poison", "no conformity is claimed"):
        assert word in everything


def test_names_of_cases_and_patients_are_in_none_of_them(evidence):
    for text in evidence[1].values():
        assert not re.search(r"ISIC_\d|\bP\d{3}\b", text)


def test_what_the_audit_says_is_escaped_in_each_form(evidence):
    folder, text = evidence
    assert "<script>" not in text["html"] and "&lt;script&gt;" in text["html"] and "spleen &lt;b&gt;" in text["html"]
    assert "\\<script\\>" in text["md"] and "local scale \\| " in text["md"]
    assert json.loads(text["json"])["notes"] == AUDIT["notes"]
    gates = json.loads(text["json"])["gates"]
    assert [(gate["expression"], gate["passed"]) for gate in gates] == [("dice@8 >= 0.6", False), ("clean >= 0.5", True)]
    assert "Gate missed:</span> dice@8 &gt;= 0.6, .410 (.300 to .500)" in text["html"]
    assert {"field": "range", "value": "[-57, 164]", "source": ""} in json.loads(text["json"])["recovered"]
    card = build(folder).read_text(encoding="utf-8")
    assert "with the local scale | &lt;script&gt;" in card and "<script>alert" not in card
    assert card.index("with the local scale") < card.index("<h2>Gates</h2>") < card.index("Dice under attack</h2>")


@pytest.mark.parametrize(
    "text", ["{}", '{"model": 3, "gates": {"a": 1}, "facts": null, "notes": "x", "exit_code": true, "versions": []}']
)
def test_an_audit_that_says_little_is_no_fault(tmp_path, text):
    (small(tmp_path) / "audit.json").write_text(text, encoding="utf-8")
    told = json.loads(forms(tmp_path)["json"])
    assert told["gates"] == [] and told["notes"] == [] and told["exit_code"] is None and told["tested"]["model"] == "UNet"


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_audit_is_named(tmp_path, text):
    (small(tmp_path) / "audit.json").write_text(text, encoding="utf-8")
    for make in (build, build_evidence):
        with pytest.raises(RecordError, match=r"cannot read .*audit\.json.*remove that file, or run the audit again"):
            make(tmp_path)


def test_without_labels_every_word_is_of_stability(tmp_path):
    for text in forms(small(tmp_path, reference="own prediction")).values():
        assert "tability" in text and "own clean prediction" in text and "no labels were given" in text.lower()
        assert "Dice" not in text
        assert not re.search(r"\baccuracy, clean\b|^Accuracy, ", text, re.I | re.M)


def test_clean_records_alone_claim_no_robustness(tmp_path):
    with RecordWriter(tmp_path / "records", "aa", {}) as writer:
        writer.add(frame([0.9, 0.8], fingerprint="aa").to_dict("records"))
    text = forms(tmp_path)
    assert "No input made to mislead the model within a bound is recorded." in text["html"]
    assert "None of the threats it names was tested." in text["md"]
    assert "digest not recorded" in text["html"] and "do not say which command" in text["html"]


def test_checks_and_their_doubts_are_told(tmp_path):
    small(tmp_path)
    verdicts = [
        {"name": "Black box", "verdict": "suspect", "evidence": "Square wins on 1 of 3 cases", "numbers": {}},
        {"name": "Gradients", "verdict": "ok", "evidence": "0.0 % zero", "numbers": {}},
    ]
    about = {"cases": ["c000"], "attack": "PGD", "defense": "none", "adaptive": False, "eps": 8.0, "unit": "grey level"}
    add_verdicts(tmp_path, "bb", {"verdicts": verdicts, **about})
    text = forms(tmp_path)
    assert "<b>Black box</b> suspect, Square wins on 1 of 3 cases" in text["html"]
    assert "Gradients" in text["html"] and "- Gradients: ok, 0.0 % zero" in text["md"]


def crowded(folder: Path) -> Path:
    """More defences, classes, attacks, gates, doubts and notes than any audit has, all of long names."""
    rng, number = np.random.default_rng(0), 0
    for defense in ["none", *(f"A very long defence name, number {k} (with options; 4:2:0)" for k in range(6))]:
        for eps in (0.0, 2.0, 8.0, 16.0):
            number += 1
            about = {**ATTACK, "attack": "PGD dice focal objective", "eps": eps, "linf": eps} if eps else {}
            name = f"{number:04x}"
            more = {"defense": defense, "adaptive": defense != "none" and eps > 0, "fingerprint": name, "task": "a_task_" * 9}
            facts = {"weights": "4f" * 32, "data": "ab" * 32, "command": "monai-advdef audit " + "x/configs/long.yaml " * 30}
            facts["versions"] = {key: "1.6.1+build.of.some.length" for key in ("monai_advdef", "monai", "torch", "numpy", "python")}
            with RecordWriter(folder / "records", name, facts) as writer:
                for k in range(20):
                    told = {**about, **more, "class": f"a long class name of structure {k}", "reference": "own prediction"}
                    writer.add(frame(rng.random(4) * 0.5, **told).to_dict("records"))
    gates = [
        {"expression": "dice[a long name]@8HU >= 0.6 " * 3, "passed": k % 2 == 0, "value": 0.5, "reason": "w " * 99}
        for k in range(15)
    ]
    audit = {
        "model": {"name": "m" * 300, "kind": "k" * 200},
        "notes": [f"note {k} " + "word " * 99 for k in range(12)],
        "gates": gates,
    }
    (folder / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    doubts = [{"name": f"Check {k}", "verdict": "suspect", "evidence": "evidence " * 40, "numbers": {}} for k in range(20)]
    about = {"cases": [], "attack": "PGD", "defense": "none", "adaptive": False, "eps": 8.0, "unit": "grey level"}
    add_verdicts(folder, "0002", {"verdicts": doubts, **about})
    return folder


@needs_chromium
@pytest.mark.parametrize(
    "make", [small, lambda folder: write_study(folder) is not None and folder, crowded], ids=["small", "study", "crowded"]
)
def test_the_page_prints_on_one_side_of_a4(tmp_path, make):
    path = build_evidence(make(tmp_path))
    assert printed(path, tmp_path / "evidence.pdf") == (1, (210, 297))


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_from_disk_on_any_screen(evidence, width):
    with opened(evidence[0] / "evidence.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_type_is_as_large_as_the_text_allows():
    sizes = [print_size(n) for n in (500, 3000, 5000, 9000, 90000)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 11.0 and sizes[-1] == 7.5


def test_what_has_no_room_on_the_page_is_counted(tmp_path):
    text = forms(crowded(tmp_path))
    told = json.loads(text["json"])
    assert "more lines in evidence.json" in text["html"] and "more doubts in evidence.json" in text["html"]
    assert len(told["gates"]) == 15 and text["md"].count("- missed:") + text["md"].count("- passed:") == 15
    assert len(text["html"]) < 3e6 and len(text["json"]) < 3e6


def test_several_defences_have_their_lines(tmp_path):
    """Of a defence that nobody who knows it attacked there is no number under attack."""
    chosen = [
        {"attack": a, "eps": e, "defense": d, "adaptive": False}
        for d in ("none", "FR(30,5,80)")
        for a, e in (("none", 0.0), ("PGD", 8.0))
    ]
    for cell in chosen:
        rows = rows_of(cell, cases=4)
        with RecordWriter(tmp_path / "records", rows[0]["fingerprint"], {}) as writer:
            writer.add(rows)
    told = json.loads(forms(tmp_path)["json"])
    assert {(e["what"], e["defense"]) for e in told["results"]} == {
        ("clean", "none"),
        ("clean", "FR(30,5,80)"),
        ("under attack", "none"),
    }
    assert words.defence("FR(30,5,80)") in told["tested"]["defenses"]


def test_a_suite_is_told_with_the_attacks_it_is_made_of(tmp_path):
    """And an audit's page is called by the model where the task has no name."""
    suite = {**ATTACK, "suite": "smoke", "model": "spleen_ct", "task": "segmentation", "fingerprint": "bb"}
    tables = [frame([0.4, 0.3], **{**suite, "attack": "worst"}), frame([0.4, 0.5], **{**suite, "attack": "PGD dice"})]
    tables += [frame([0.6, 0.3], **{**suite, "attack": "Square", "steps": 100})]
    for name, rows in (("aa", [frame([0.9, 0.8], fingerprint="aa", model="spleen_ct", task="segmentation")]), ("bb", tables)):
        with RecordWriter(tmp_path / "records", name, {}) as writer:
            writer.add([line for table in rows for line in table.to_dict("records")])
    (tmp_path / "audit.json").write_text('{"model": {"kind": "MONAI bundle"}}', encoding="utf-8")
    text = forms(tmp_path)
    told = json.loads(text["json"])
    assert told["title"] == "Spleen ct, MONAI bundle" and told["suites"] == {"smoke": ["PGD-10 dice", "Square-100"]}
    assert "Suite smoke tries PGD-10 dice, Square-100." in text["html"] and "Suite smoke tries" in text["md"]
    assert not any("gradients that are hidden" in line for line in told["does_not_cover"]), "Square needs none"
    assert [e["attacks"] for e in told["results"]] == [[], ["smoke (worst case)"]]
