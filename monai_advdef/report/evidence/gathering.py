"""All that the evidence page says, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_advdef.records import LABELS, read_provenance
from monai_advdef.report import words
from monai_advdef.report.audited import Audit, read_audit
from monai_advdef.report.checked import checked
from monai_advdef.report.evidence.results import members, results
from monai_advdef.report.evidence.texts import PREFACE, not_covered, passages
from monai_advdef.report.finding import finding
from monai_advdef.report.scope import Scope, read_scope
from monai_advdef.report.verdicts import verdicts

FORMAT = "monai-advdef evidence 1"


def gather(folder: str | Path, *, eps: float | None = None, model: str | None = None, run: str | None = None) -> dict[str, Any]:
    """What the records, ``checks.json`` and ``audit.json`` of ``folder`` say, as JSON has it. No case or patient is named in it
    unless a check's own words do.

    Args:
        folder, eps, model, run: as of :func:`monai_advdef.report.build`.

    Raises:
        RecordError, ValueError: as :func:`monai_advdef.report.build`.
    """
    folder = Path(folder)
    scope = read_scope(folder / "records", eps=eps, model=model, run=run)
    used = set(scope.every["fingerprint"])
    facts = [entry for name, entry in read_provenance(folder / "records").items() if name in used]
    audit = read_audit(folder)
    boxes = [("records", box) for box in verdicts(scope)] + [("check", box) for box in checked(folder, used)]
    return {
        "format": FORMAT,
        "title": words.evaluation(str(scope.every["task"].iloc[0]), str(scope.every["model"].iloc[0]), audit.kind),
        "date": max((str(entry["recorded"])[:10] for entry in facts if entry.get("recorded")), default=""),
        "finding": finding(scope),
        "tested": _tested(scope, facts, audit),
        "on": _data(scope, facts),
        "by": _version(scope, facts, audit),
        "results": results(scope),
        "suites": members(scope),
        "checks": [{"of": of, "name": box.name, "status": box.status, "text": _text(box.text, scope, of)} for of, box in boxes],
        "gates": [gate._asdict() for gate in audit.gates],
        "exit_code": audit.exit_code,
        "notes": list(audit.notes),
        "recovered": [fact._asdict() for fact in audit.facts],
        "speaks_to": [passage._asdict() for passage in passages(scope)],
        "speaks_to_preface": PREFACE,
        "does_not_cover": [*not_covered(scope), *_left(scope)],
    }


def _tested(scope: Scope, facts: list[dict], audit: Audit) -> dict[str, Any]:
    bound = words.bound(scope.eps, scope.unit, scope.norm) if scope.eps is not None else ""
    return {
        "model": audit.name or str(scope.every["model"].iloc[0]),
        "kind": audit.kind or "network",
        "task": str(scope.every["task"].iloc[0]),
        "weights": _digests(facts, "weights"),
        "classes": sorted(str(name) for name in scope.rows["class"].unique()),
        "defenses": [words.defence(name) for name in scope.defenses],
        "attacker": f"may change {'every pixel by at most' if scope.norm == 'linf' else 'the image by at most'} {bound}"
        if bound
        else "",
    }


def _data(scope: Scope, facts: list[dict]) -> dict[str, Any]:
    reference = str(scope.every["reference"].iloc[0]) if "reference" in scope.every else LABELS
    return {
        "cases": int(scope.every["case"].nunique()),
        "patients": int(scope.every["patient"].nunique()),
        "data": _digests(facts, "data"),
        "reference": "reference labels" if reference == LABELS else "the model's own clean prediction",
    }


def _version(scope: Scope, facts: list[dict], audit: Audit) -> dict[str, Any]:
    versions: dict[str, list[str]] = {}
    for pairs in [_pairs(entry.get("versions")) for entry in facts] or [audit.versions]:
        for name, version in pairs:
            versions.setdefault(name, [])
            versions[name] += [version] if version not in versions[name] else []
    named = [name for name in dict.fromkeys(scope.every["suite"]) if name]
    told = [((entry.get("config") or {}).get("attack") or {}).get("attack") or {} for entry in facts]
    suites = [{"name": name, "version": "", "digest": ""} for name in named]
    for suite in suites:
        for of in (of for of in told if isinstance(of, Mapping) and of.get("name") == suite["name"]):
            suite |= {part: str(of.get(part, "")) for part in ("version", "digest")}
    commands = [c if isinstance(c, str) else " ".join(map(str, c)) for c in (entry.get("command") for entry in facts) if c]
    return {"versions": versions, "suites": suites, "commands": list(dict.fromkeys(commands))}


def _pairs(versions: Any) -> Iterable[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in versions.items()] if isinstance(versions, Mapping) else []


def _digests(facts: list[dict], part: str) -> list[str]:
    return list(dict.fromkeys(str(entry[part]) for entry in facts if entry.get(part)))


def _text(text: str, scope: Scope, of: str) -> str:
    return text.replace("Dice", scope.metric_name) if of == "check" and scope.stability else text


def _left(scope: Scope) -> list[str]:
    """What lies in the same folder and is not told of here."""
    told = [f"Recorded in the same folder, and not told here: {'; '.join(scope.others)}."] if scope.others else []
    if scope.left_out or scope.unfinished:
        told.append(f"{words.count(len(scope.left_out) + len(scope.unfinished), 'run')} not finished, or not on the same cases.")
    return told
