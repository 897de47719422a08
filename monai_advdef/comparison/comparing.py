"""Two or more models on the same cases, pair by pair: how far apart, how certain, and "not separable" where they are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from monai_advdef import stats
from monai_advdef.comparison.measures import OVERLAPS, OWN, STABILITY, Measure, measure
from monai_advdef.comparison.pairing import common_cases, common_classes, common_conditions, pair
from monai_advdef.comparison.sides import Condition, Side, read_side
from monai_advdef.errors import DataError
from monai_advdef.report import words

LEVEL = 0.05
"""Of the family of all comparisons, after Holm's correction."""
MOST = 6
"""Models that are compared at once: 15 pairs."""


@dataclass(frozen=True)
class Compared:
    """One pair of models under one condition.

    Attributes:
        a, b: names of the two.
        condition: attack and size, in words.
        n, patients: cases and patients.
        mean_a, mean_b: over cases.
        difference, ci_low, ci_high: mean of a minus b, and its 95 % interval, patients drawn with replacement.
        effect: matched-pairs rank-biserial correlation, -1 to 1, over patients; above 0 where a has the higher values.
        p: of the two-sided Wilcoxon signed-rank test over patients; ``p_holm``: corrected over all comparisons; ``least_p``: the
            least that so many patients can reach, before the correction.
        verdict: ``"a better"`` or ``"b better"`` with the name, or ``"not separable"``.
        unpaired: pairs of case and class that only one side has a value of, left out on both.
    """

    a: str
    b: str
    condition: str
    n: int
    patients: int
    mean_a: float
    mean_b: float
    difference: float
    ci_low: float
    ci_high: float
    effect: float
    p: float
    p_holm: float
    least_p: float
    method: str
    verdict: str
    unpaired: int


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        measure: what was compared: ``dice``, ``stability``, ``hd95_mm``, ...
        better: ``higher``, ``lower`` or ``nearer 0``.
        sides: of every model its name, model, weights, data and number of cases.
        cases, patients: how many are common to all.
        classes: the common ones.
        rows: worst cases of suites first, then other attacks, noise and the clean score; within each, pair by pair.
        notes: what is not alike, and what was left out.
        doubts: what checks hold against the evaluations.
    """

    measure: str
    better: str
    sides: list[dict[str, Any]]
    cases: int
    patients: int
    classes: list[str]
    rows: list[Compared]
    notes: list[str]
    doubts: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON has it; what is not defined as nothing."""
        told = {"level": LEVEL, "correction": f"Holm over {len(self.rows)} comparisons", **asdict(self)}
        return _plain(told)


def compare(
    folders: Sequence[str | Path], *, metric: str | None = None, model: str | None = None, resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare all pairs of models on the cases, classes and attacks that all of them were scored on.

    What counts under an attack is its lowest score per case, of the attacker with the lower mean where a defence is deployed. Holm's
    correction is over all pairs and conditions. Two models are separable where the corrected p is below .05, the interval of the
    mean difference leaves 0 out, and test and mean point the same way.

    Args:
        folders: two or more output folders of audits or evaluations.
        metric: which; by default Dice, called stability where there were no labels.
        model: which, where records hold several.

    Raises:
        DataError: fewer than two folders, or one twice; no common case, class or attack; one scored against labels and another
            against its own prediction.
        RecordError: a file is damaged.
    """
    sides = _sides(folders, model)
    notes: list[str] = []
    of = _measure(sides, metric)
    recorded = "dice" if of.name == STABILITY else of.name
    classes = common_classes(sides, recorded, notes)
    cases = common_cases(sides, notes)
    conditions = common_conditions(sides, recorded, notes)
    if of.name == STABILITY:
        conditions = [c for c in conditions if c.attack != "none"]
        notes.append("there were no labels: each model is compared with its own clean prediction, which says nothing about accuracy")
    _tell_differences(sides, notes)
    found = [side.conditions(recorded) for side in sides]
    on = _Common(cases, classes, of, resamples, seed)
    pairs: list[Compared] = []
    used: list[set[str]] = [set() for _ in sides]
    for condition in conditions:
        for i, j in combinations(range(len(sides)), 2):
            a, b = found[i][condition], found[j][condition]
            used[i] |= set(a["fingerprint"])
            used[j] |= set(b["fingerprint"])
            pairs += [row] if (row := _compared(sides[i], sides[j], condition, (a, b), on)) is not None else []
    rows = _corrected(pairs, of)
    if not rows:
        raise DataError(f"no case has a {of.name} on two sides, so nothing can be paired; choose another --metric")
    _tell_few(rows, notes)
    doubts = [doubt for side, names in zip(sides, used) for doubt in side.doubts(names)]
    first = sides[0].rows[sides[0].rows["case"].isin(cases)]
    told = [_about(side) for side in sides]
    return Comparison(of.name, of.better, told, len(cases), first["patient"].nunique(), sorted(classes), rows, notes, doubts)


def _sides(folders: Sequence[str | Path], model: str | None) -> list[Side]:
    if not 2 <= len(folders) <= MOST:
        raise DataError(f"give two to {MOST} output folders to compare, got {len(folders)}")
    resolved = [Path(folder).resolve() for folder in folders]
    twice = next((p for i, p in enumerate(resolved) if p in resolved[:i]), None)
    if twice is not None:
        raise DataError(f"{twice} is given twice; give folders of different models")
    return [read_side(folder, name, model=model) for folder, name in zip(folders, _names(resolved))]


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of the outer folders as tell them apart; ``records`` itself is no name."""
    parts = [p.parts[:-1] if p.name == "records" else p.parts for p in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"{paths[0]} is given twice; give folders of different models")


def _measure(sides: Sequence[Side], metric: str | None) -> Measure:
    references = {side.reference for side in sides}
    if len(references) > 1:
        told = ", ".join(f"{side.name} against {side.reference}" for side in sides)
        raise DataError(f"scores are about different things ({told}); audit all with labels, or all with --labels none")
    own = references == {OWN}
    name = metric or (STABILITY if own else "dice")
    if own and name in OVERLAPS:
        raise DataError(f"there were no labels, so there is no {name}: each model was compared with itself; leave --metric away")
    try:
        return measure(name)
    except ValueError as error:
        raise DataError(str(error)) from error


class _Common(NamedTuple):
    """What is common to all sides, and how it is looked at."""

    cases: set[str]
    classes: set[str]
    of: Measure
    resamples: int
    seed: int


def _compared(a: Side, b: Side, condition: Condition, rows: tuple[pd.DataFrame, pd.DataFrame], on: _Common) -> Compared | None:
    """One pair under one condition, before the correction; ``None`` where no case has a value on both sides."""
    try:
        paired = pair(*rows, on.cases, on.classes, on.of)
        if not len(paired.a):
            return None
        found = stats.compare(paired.a, paired.b, resamples=on.resamples, seed=on.seed)
        ranked = stats.signed_rank(paired.a, paired.b, resamples=1, seed=on.seed)
    except ValueError as error:
        raise DataError(f"{a.name} and {b.name} under {condition.told}: {error}") from error
    return Compared(
        a=a.name,
        b=b.name,
        condition=condition.told,
        n=found.n,
        patients=found.patients,
        mean_a=float(paired.a["value"].mean()),
        mean_b=float(paired.b["value"].mean()),
        difference=found.difference,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        effect=ranked.effect,
        p=found.p,
        p_holm=math.nan,
        least_p=ranked.least_p,
        method=found.method,
        verdict="",
        unpaired=paired.only_a + paired.only_b,
    )


def _corrected(rows: list[Compared], of: Measure) -> list[Compared]:
    """The rows with corrected p and verdict."""
    found = []
    for row, p in zip(rows, stats.holm([row.p for row in rows])):
        apart = p < LEVEL and (row.ci_low > 0 or row.ci_high < 0) and row.effect * row.difference > 0
        higher = row.a if row.difference > 0 else row.b
        lower = row.b if row.difference > 0 else row.a
        verdict = "not separable" if not apart else f"{higher if of.better == 'higher' else lower} better"
        found.append(replace(row, p_holm=float(p), verdict=verdict))
    return found


def _tell_few(rows: Sequence[Compared], notes: list[str]) -> None:
    """That no difference, however large, could be shown, where there are too few patients for it."""
    fewest = min(rows, key=lambda row: row.patients)
    least = min(1.0, 2.0 ** (1 - fewest.patients) * len(rows))
    if least >= LEVEL:
        notes.append(
            f"with {words.count(fewest.patients, 'patient')} and {words.count(len(rows), 'comparison')} the corrected p is at least "
            f"{least:.2g}, so no difference can be shown, however large; not separable then does not mean equal"
        )


def _tell_differences(sides: Sequence[Side], notes: list[str]) -> None:
    """What may make the comparison unfair, in words."""
    for column, what in (("task", "tasks are called differently"), ("model", "models")):
        told = [f"{side.name}: {', '.join(side.told(column))}" for side in sides]
        if column == "task" and len({text.partition(": ")[2] for text in told}) > 1:
            notes.append(f"the {what} ({'; '.join(told)}); only classes of one name are compared")
    data = {side.name: side.told("data") for side in sides}
    if len({tuple(found) for found in data.values()}) > 1:
        notes.append(
            "the images as loaded are not the same on all sides (by their digests): other cases, another preprocessing, or other "
            "files under the same names; the pairs are made by the name of the case"
        )
    weights = [tuple(side.told("weights")) for side in sides]
    for i, j in combinations(range(len(sides)), 2):
        if weights[i] and weights[i] == weights[j]:
            notes.append(f"{sides[i].name} and {sides[j].name} have the same weights")
    for side in sides:
        notes += [f"of {side.name}, not compared: {text}" for text in side.left_out]


def _about(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "model": ", ".join(side.told("model")),
        "weights": ", ".join(words.short_hash(w) for w in side.told("weights")),
        "data": ", ".join(words.short_hash(d) for d in side.told("data")),
        "defense": ", ".join(words.defence(d) for d in side.told("defense")),
        "cases": len(side.cases),
        "reference": side.reference,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
