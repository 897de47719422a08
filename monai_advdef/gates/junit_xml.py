"""Results for build servers: JUnit XML, a test case for every gate, check and comparison with a baseline.

The shape is the one that Jenkins, GitLab, Azure and GitHub's reporters read: ``testsuites`` of ``testsuite`` of ``testcase``, with
``failure`` where it is missed (github.com/testmoapp/junitxml collects what they have in common).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from monai_advdef.gates.evaluate import GateResult
from monai_advdef.neighbours import cannot_write, whole

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(
    path: str | Path,
    gates: Sequence[GateResult],
    checks: Mapping[str, Mapping[str, Any]],
    *,
    name: str = "audit",
    seconds: float = 0.0,
) -> Path:
    """Write the file and return its path.

    Args:
        path: the file; its folder is made when needed.
        gates: of gates and baseline.
        checks: entries of ``checks.json`` by fingerprint, see :func:`monai_advdef.records.read_verdicts`.
        name: of what was audited.
        seconds: how long it took.

    Raises:
        OSError: it cannot be written; names it and the remedy.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as new:
            new.write_text(junit(gates, checks, name=name, seconds=seconds), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "the results for the build server") from error
    return path


def junit(gates: Sequence[GateResult], checks: Mapping[str, Mapping[str, Any]], *, name: str = "audit", seconds: float = 0.0) -> str:
    """The text of the file; see :func:`write_junit`."""
    suites = [
        _suite("gates", f"{name}.gates", [_of_gate(g) for g in gates if g.kind == "gate"]),
        _suite("baseline", f"{name}.baseline", [_of_gate(g) for g in gates if g.kind == "baseline"]),
        _suite("checks", f"{name}.checks", list(_of_checks(checks))),
    ]
    suites = [suite for suite in suites if len(suite)]
    root = ElementTree.Element("testsuites", _counts(suites) | {"name": _clean(name), "time": f"{seconds:.3f}"})
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(name: str, group: str, cases: Iterable[tuple[str, bool, str]]) -> ElementTree.Element:
    found = list(cases)
    failures = sum(not passed for _, passed, _ in found)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    about = {"name": name, "tests": str(len(found)), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"}
    suite = ElementTree.Element("testsuite", about | {"timestamp": now})
    for text, passed, reason in found:
        case = ElementTree.SubElement(suite, "testcase", {"name": _clean(text), "classname": _clean(group), "time": "0"})
        told = ElementTree.SubElement(case, "system-out" if passed else "failure")
        if not passed:
            told.attrib |= {"message": _clean(reason).splitlines()[0] if reason else "", "type": "missed"}
        told.text = _clean(reason)
    return suite


def _of_gate(result: GateResult) -> tuple[str, bool, str]:
    return result.name, result.passed, result.reason


def _of_checks(checks: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, bool, str]]:
    for fingerprint, entry in checks.items():
        about = f"{entry.get('attack', 'attack')} {fingerprint}"
        for verdict in entry["verdicts"]:
            yield f"{verdict['name']} ({about})", verdict["verdict"] == "ok", f"{verdict['verdict']}: {verdict['evidence']}"


def _counts(suites: Sequence[ElementTree.Element]) -> dict[str, str]:
    return {key: str(sum(int(suite.attrib[key]) for suite in suites)) for key in ("tests", "failures", "errors")}


def _clean(text: str) -> str:
    """The text without the signs that XML 1.0 does not have, escaped or not."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
