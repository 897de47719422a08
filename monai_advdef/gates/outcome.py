"""What an audit comes to: its exit code, and verdict, gates and baseline as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_advdef.gates.evaluate import GateResult
from monai_advdef.report import words

FINE, SUSPECT, USAGE, UNFINISHED = 0, 1, 2, 3
MEANING = {
    FINE: "fine: nothing is doubted, and every gate is kept",
    SUSPECT: "suspect, or a gate is missed",
    USAGE: "usage or input: nothing was done, and the message says what to change",
    UNFINISHED: "it could not finish; the same command goes on from there",
}
"""Exit codes and what they mean."""


def doubtful(verdicts: Iterable[Any]) -> list[str]:
    """The verdicts that are not ``ok``, a sentence each. Taken are verdicts of ``checks.json`` (``verdict``, ``evidence``) and boxes
    of the card (``status``, ``text``; a ``note`` doubts nothing)."""
    found = []
    for given in verdicts:
        entry = given if isinstance(given, Mapping) else given._asdict() if hasattr(given, "_asdict") else vars(given)
        status = str(entry.get("verdict", entry.get("status", "ok")))
        if status not in ("ok", "note"):
            found.append(f"{entry.get('name', 'check')}: {status}, {entry.get('evidence', entry.get('text', ''))}")
    return found


def exit_code(verdicts: Iterable[Any], gates: Sequence[GateResult] = ()) -> int:
    """0 where nothing is doubted and all gates (and baseline results) are kept, else 1. What cannot be read or finished are errors
    of their own, with the codes 2 and 3."""
    return SUSPECT if doubtful(verdicts) or not all(gate.passed for gate in gates) else FINE


def in_words(verdicts: Iterable[Any], gates: Sequence[GateResult] = ()) -> str:
    """The outcome as lines for a terminal, the worst first; the last line is the sum."""
    doubts = doubtful(verdicts)
    missed, kept = ([g for g in gates if g.passed is side] for side in (False, True))
    lines = [f"suspect  {text}" for text in doubts]
    lines += [f"MISSED   {gate.name}\n         {gate.reason}" for gate in missed]
    lines += [f"kept     {gate.name}\n         {gate.reason}" for gate in kept]
    told = [words.count(len(doubts), "doubt")] if doubts else []
    if gates:
        every = words.count(len(gates), "gate")
        told.append(f"{len(missed)} of {every} missed" if missed else f"{every} kept")
    code = exit_code(verdicts_of(doubts), gates)
    return "\n".join([*lines, f"exit code {code}: {', '.join(told) or 'nothing is doubted'}"])


def verdicts_of(doubts: Sequence[str]) -> list[dict[str, str]]:
    """Doubts told in words, as verdicts."""
    return [{"name": "", "verdict": "suspect", "evidence": text} for text in doubts]


def plain(verdicts: Iterable[Any], gates: Sequence[GateResult] = ()) -> dict[str, Any]:
    """The part of ``audit.json`` on the outcome: ``exit_code``, ``meaning``, ``doubts``, and ``gates`` (the baseline's, too)."""
    doubts = doubtful(verdicts)
    code = exit_code(verdicts_of(doubts), gates)
    return {"exit_code": code, "meaning": MEANING[code], "doubts": doubts, "gates": [gate.plain() for gate in gates]}
