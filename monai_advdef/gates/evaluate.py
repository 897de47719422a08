"""Whether gates are kept: the number, its interval over patients, and the reason in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef import stats
from monai_advdef.gates.expression import Gate
from monai_advdef.gates.numbers import Missing, Numbers, Scores
from monai_advdef.records import read_verdicts
from monai_advdef.report import words
from monai_advdef.report.verdicts import Verdict

RESAMPLES = 2000


@dataclass(frozen=True)
class GateResult:
    """What came of a gate.

    Attributes:
        name: the gate, as it would be written.
        passed: whether the number is there, is trusted and keeps to the bound.
        value: the number; ``None`` where the records do not hold it.
        interval: its 95 % interval, patients drawn with replacement; ``None`` where there is none.
        n, patients: over how many cases of how many patients.
        reason: a sentence.
        kind: ``gate`` or ``baseline``.
    """

    name: str
    passed: bool
    value: float | None
    interval: tuple[float, float] | None
    n: int
    patients: int
    reason: str
    kind: str = "gate"

    def plain(self) -> dict[str, Any]:
        """As JSON has it; what is not finite as nothing."""
        return {
            "name": self.name,
            "kind": self.kind,
            "passed": self.passed,
            "value": finite(self.value),
            "interval": None if self.interval is None else [finite(end) for end in self.interval],
            "n": self.n,
            "patients": self.patients,
            "reason": self.reason,
        }


def finite(value: float | None) -> float | None:
    """The number, or nothing where JSON has no word for it."""
    return None if value is None or not math.isfinite(value) else float(value)


def evaluate_gates(
    gates: Sequence[Gate], folder: str | Path, *, model: str | None = None, defense: str | None = None
) -> list[GateResult]:
    """Read every gate from the records of an output folder, in the order given.

    A gate reads the worst case: of every image the lowest score of all attacks of its size, by the attacker who knows the defence
    or the one who does not, whichever has the lower mean. It is missed where the number is not there, where a check or the records
    themselves doubt it, and where it does not keep to the bound.

    Args:
        gates: see :func:`monai_advdef.gates.parse_gates`.
        folder: holds ``records/`` and perhaps ``checks.json``.
        model, defense: which, where the records hold several.

    Raises:
        RecordError: there are no records, or a file is damaged.
    """
    if not gates:
        return []
    found = read_verdicts(folder)
    try:
        numbers = Numbers(folder, model=model, defense=defense)
    except ValueError as error:
        return [GateResult(str(gate), False, None, None, 0, 0, f"not known: {error}") for gate in gates]
    return [_evaluate(gate, numbers, found) for gate in gates]


def _evaluate(gate: Gate, numbers: Numbers, checks: dict[str, dict[str, Any]]) -> GateResult:
    try:
        scores = numbers.read(gate)
        if not len(scores.values):
            raise Missing(f"{gate.measure} is defined on no image")
    except (Missing, ValueError) as why:
        return GateResult(str(gate), False, None, None, 0, 0, f"not known: {why}")
    values, patients = scores.values["value"].to_numpy(dtype=float), scores.values["patient"].to_numpy()
    value = statistic(gate.statistic, values)
    interval = interval_of(gate.statistic, values, patients)
    kept = gate.kept_by(round(value, 12)) if math.isfinite(value) else gate.kept_by(value)
    told = _told(gate, value, interval, scores)
    doubt = next(_doubts(scores, checks, numbers.doubts(scores.scope), attacked=gate.eps is not None), "")
    if doubt:
        reason = f"{told}, but it cannot be trusted: {doubt}"
    elif kept:
        reason = told + _unsure(gate, interval)
    else:
        reason = f"{told}, and not {gate.sign} {gate.bound:g}"
    return GateResult(str(gate), kept and not doubt, value, interval, len(values), len(set(patients)), reason)


def _doubts(scores: Scores, checks: dict[str, dict[str, Any]], boxes: Sequence[Verdict], *, attacked: bool) -> Iterator[str]:
    """What the checks and the records themselves hold against the numbers."""
    for name in sorted(scores.fingerprints & set(checks)):
        for verdict in checks[name]["verdicts"]:
            if verdict["verdict"] != "ok":
                yield f"check {verdict['name']}: {verdict['verdict']}, {verdict['evidence']}"
    for box in boxes:
        if attacked or box.name == "Recorded":
            yield f"{box.name}: {box.text}"


def _told(gate: Gate, value: float, interval: tuple[float, float] | None, scores: Scores) -> str:
    around = "" if interval is None else f" (95 % interval {number(interval[0])} to {number(interval[1])})"
    on = f"{words.count(len(scores.values), 'image')} of {words.count(scores.values['patient'].nunique(), 'patient')}"
    left = f", {words.count(scores.undefined, 'image')} without a value left out" if scores.undefined else ""
    where = "without an attack" if gate.eps is None else f"under {scores.attack}"
    where += ", against the model's own clean prediction" if scores.own else ""
    return f"{gate.number} is {number(value)}{around}, {on} {where}{left}"


def _unsure(gate: Gate, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return (
        ""
        if all(gate.kept_by(end) for end in interval)
        else "; other patients could miss it, as the interval reaches past the bound"
    )


def number(value: float) -> str:
    """Four digits that count, without noughts behind them."""
    return f"{value:.4g}"


def statistic(name: str, values: np.ndarray) -> float:
    """``mean``, ``median``, ``min``, ``max`` or a percentile such as ``p10`` (linear between ranks) of the values (N,)."""
    percentile = re.fullmatch(r"p(\d+)", name)
    return float(np.percentile(values, int(percentile[1])) if percentile else getattr(np, name)(values))


def interval_of(
    name: str, values: np.ndarray, patients: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of a statistic over cases, whole patients drawn with replacement; none with one patient,
    nor of a least or greatest value, for which the bootstrap fails, nor where a value is not finite."""
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2 or name in ("min", "max", "p0", "p100") or not np.isfinite(values).all():
        return None
    if name == "mean":
        return stats.bootstrap_interval(values, patients, resamples=resamples, seed=seed)
    groups = [values[index == k] for k in range(len(names))]
    draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    found = [statistic(name, np.concatenate([groups[k] for k in drawn])) for drawn in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
