"""What an audit says beside the records: ``audit.json``, which names the model and what was recovered of it, notes and gates."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_advdef.records import RecordError
from monai_advdef.report import words

FILE = "audit.json"


class Fact(NamedTuple):
    """Something that was recovered of a model: a field, its value, and where it was read."""

    field: str
    value: str
    source: str


class Gate(NamedTuple):
    """A demand on a number: the demand, whether it is met, the number with its interval, on how many cases, and why not."""

    expression: str
    passed: bool
    value: str
    interval: str
    n: str
    reason: str


class Audit(NamedTuple):
    """``audit.json`` as text; empty where there is none."""

    name: str = ""
    kind: str = ""
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    exit_code: int | None = None
    versions: tuple[tuple[str, str], ...] = ()


def read_audit(folder: str | Path) -> Audit:
    """The audit of ``folder``; what its file does not tell is empty.

    Raises:
        RecordError: the file is damaged; names it and the remedy.
    """
    path = Path(folder) / FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        return Audit()
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {error}; remove that file, or run the audit again") from error
    model, code = _mapping(told.get("model")), told.get("exit_code")
    return Audit(
        name=_text(model.get("name")),
        kind=_text(model.get("kind")),
        facts=tuple(Fact(*(_text(fact.get(part)) for part in Fact._fields)) for fact in _mappings(told.get("facts"))),
        notes=tuple(dict.fromkeys(_text(note) for note in _list(told.get("notes")) if _text(note))),
        gates=tuple(_gate(gate) for gate in _mappings(told.get("gates"))),
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        versions=tuple((str(name), _text(version)) for name, version in _mapping(told.get("versions")).items()),
    )


def _gate(told: Mapping[str, Any]) -> Gate:
    interval = [float(end) for end in _list(told.get("interval")) if isinstance(end, (int, float))]
    return Gate(
        expression=_text(told.get("expression") or told.get("name")),
        passed=told.get("passed") is True,
        value=_number(told.get("value")),
        interval=f"{_number(interval[0])} to {_number(interval[1])}" if len(interval) == 2 and not math.isnan(interval[0]) else "",
        n=_text(told.get("n")),
        reason=_text(told.get("reason")),
    )


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "–"
    return words.fraction(value) if abs(value) <= 1 or math.isnan(value) else f"{value:.4g}".replace("-", "−")


def _text(value: Any) -> str:
    """A value on one line; of a mapping or a list what JSON says."""
    if value is None:
        return ""
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]
