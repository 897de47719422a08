"""What build servers are told: exit codes, words, JSON, and JUnit XML in the shape that they read."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_advdef.gates import GateResult, exit_code, in_words, junit, plain, write_junit
from monai_advdef.report.verdicts import Verdict

OK = {"name": "bounds", "verdict": "ok", "evidence": "kept"}
SUSPECT = {"name": "masking", "verdict": "suspect", "evidence": 'a < b & "c" ]]> \x00'}
KEPT = GateResult("dice@5HU >= 0.6", True, 0.7, (0.6, 0.8), 8, 4, "dice@5HU is 0.7")
MISSED = GateResult("p10(dice)@5HU >= 0.5", False, None, None, 0, 0, "not known: <nothing> & nobody\nsecond line")
WORSE = GateResult("baseline: dice, clean", False, -0.1, (-0.2, -0.05), 8, 4, "a loss", "baseline")


@pytest.mark.parametrize(
    ("verdicts", "gates", "code"),
    [
        ([], [], 0),
        ([OK], [KEPT], 0),
        ([OK, SUSPECT], [KEPT], 1),
        ([OK], [KEPT, MISSED], 1),
        ([], [WORSE], 1),
        ([Verdict("Noise", "note", "worth knowing"), Verdict("Size", "ok", "")], [KEPT], 0),
        ([Verdict("Curve", "suspect", "it rises")], [], 1),
        ([{"name": "x", "verdict": "broken", "evidence": ""}], [], 1),
    ],
)
def test_the_exit_code(verdicts, gates, code):
    assert exit_code(verdicts, gates) == code
    told = plain(iter(verdicts), gates)
    assert told["exit_code"] == code and json.loads(json.dumps(told, allow_nan=False)) == told
    assert f"exit code {code}: " in in_words(iter(verdicts), gates).splitlines()[-1]


def test_the_outcome_in_words_has_the_worst_first():
    lines = in_words([OK, SUSPECT], [KEPT, MISSED, WORSE]).splitlines()
    first = [line.split()[0] for line in lines if not line.startswith(" ") and line != "second line"]
    assert first == ["suspect", "MISSED", "MISSED", "kept", "exit"] and lines[-1].endswith("1 doubt, 2 of 3 gates missed")


def shape(text: str) -> ElementTree.Element:
    """Parse JUnit XML and hold it against the common shape: which elements lie in which, which attributes they must have and may
    have, in which form, and that the counts are those of what is there."""
    root = ElementTree.fromstring(text.encode())
    number, whole = r"\d+(\.\d+)?", r"\d+"
    attributes = {
        "testsuites": ({"tests": whole, "failures": whole, "errors": whole, "name": ".+", "time": number}, set()),
        "testsuite": (
            {"name": ".+", "tests": whole, "failures": whole, "errors": whole, "skipped": whole, "time": number},
            {"timestamp"},
        ),
        "testcase": ({"name": ".+", "classname": ".+", "time": number}, set()),
        "failure": ({"message": ".*", "type": ".+"}, set()),
        "system-out": ({}, set()),
    }
    children = {"testsuites": {"testsuite"}, "testsuite": {"testcase"}, "testcase": {"failure", "system-out"}}
    for element in root.iter():
        needed, more = attributes[element.tag]
        assert needed.keys() <= element.attrib.keys() <= needed.keys() | more, element.attrib
        assert all(re.fullmatch(form, element.attrib[name], re.DOTALL) for name, form in needed.items()), element.attrib
        assert {child.tag for child in element} <= children.get(element.tag, set())
    for suite in (root, *root.iter("testsuite")):
        assert int(suite.attrib["tests"]) == len(list(suite.iter("testcase")))
        assert int(suite.attrib["failures"]) == len(list(suite.iter("failure")))
    return root


def test_junit_has_a_case_for_every_gate_check_and_baseline(tmp_path):
    checks = {"abc1": {"attack": "worst", "verdicts": [OK, SUSPECT]}, "abc2": {"attack": "PGD", "verdicts": [OK]}}
    path = write_junit(tmp_path / "new" / "audit.xml", [KEPT, MISSED, WORSE], checks, name="a <model> & more", seconds=12.5)
    root = shape(path.read_text(encoding="utf-8"))
    assert root.attrib["name"] == "a <model> & more" and root.attrib["time"] == "12.500"
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert list(cases) == [KEPT.name, MISSED.name, WORSE.name, "bounds (worst abc1)", "masking (worst abc1)", "bounds (PGD abc2)"]
    failed = {name: case.find("failure") for name, case in cases.items() if case.find("failure") is not None}
    assert list(failed) == [MISSED.name, WORSE.name, "masking (worst abc1)"]
    assert failed[MISSED.name].text == MISSED.reason and failed[MISSED.name].attrib["message"] == "not known: <nothing> & nobody"
    assert failed["masking (worst abc1)"].text == 'suspect: a < b & "c" ]]> \N{REPLACEMENT CHARACTER}'
    assert path.read_text(encoding="utf-8").startswith('<?xml version="1.0" encoding="UTF-8"?>')


def test_junit_of_nothing_is_still_read():
    assert shape(junit([], {})).attrib["tests"] == "0"


@given(st.text(min_size=1), st.text())
def test_no_text_breaks_the_file(name, reason):
    root = shape(junit([GateResult(name, False, None, None, 0, 0, reason)], {"a1": {"verdicts": [{**OK, "name": name}]}}))
    assert root.attrib["tests"] == "2"


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        write_junit(tmp_path / "taken" / "audit.xml", [KEPT], {})


def test_the_file_is_written_whole(tmp_path):
    path = write_junit(tmp_path / "audit.xml", [KEPT], {})
    assert [p.name for p in tmp_path.iterdir()] == ["audit.xml"] and stat.S_ISREG(Path(path).stat().st_mode)
