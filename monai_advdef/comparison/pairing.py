"""Scores of two models on the same cases: what is common to both, and in words what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from monai_advdef.comparison.measures import Measure
from monai_advdef.comparison.sides import Condition, Side, lowest
from monai_advdef.errors import DataError
from monai_advdef.report import words

KEY = ["case", "class"]


class Paired(NamedTuple):
    """Scores per case (``case, patient, value``) of two sides on the same cases and classes, and how many pairs of case and class
    only the first or only the second side has a value of."""

    a: pd.DataFrame
    b: pd.DataFrame
    only_a: int
    only_b: int


def common_cases(sides: Sequence[Side], notes: list[str]) -> set[str]:
    """The cases that all sides have; what only some have is told.

    Raises:
        DataError: there is none, or they are of other patients on another side.
    """
    common = set.intersection(*(side.cases for side in sides))
    if not common:
        told = "; ".join(f"{side.name}: {', '.join(sorted(side.cases)[:3])}, ..." for side in sides)
        raise DataError(f"no case is on all sides, so nothing can be paired ({told}); evaluate all models on the same images")
    for side in sides:
        if lacking := sorted(side.cases - common):
            told = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            notes.append(f"{words.count(len(lacking), 'case')} of {side.name} left out, for not all sides have them: {told}")
    first = _patients(sides[0], common)
    for side in sides[1:]:
        pairs = pd.DataFrame({"a": first, "b": _patients(side, common)}).drop_duplicates()
        if pairs["a"].duplicated().any() or pairs["b"].duplicated().any():
            raise DataError(
                f"{sides[0].name} and {side.name} do not agree which cases are of one patient, and the intervals count patients; "
                "give each case its 'patient' in both data lists"
            )
    return common


def _patients(side: Side, cases: set[str]) -> pd.Series:
    found = side.rows[side.rows["case"].isin(cases)].drop_duplicates("case").set_index("case")["patient"]
    return found.sort_index()


def common_classes(sides: Sequence[Side], metric: str, notes: list[str]) -> set[str]:
    """The classes that all sides have of a metric; what only some have is told.

    Raises:
        DataError: a side lacks the metric, or no class is common.
    """
    found = []
    for side in sides:
        rows = side.rows[side.rows["metric"] == metric]
        if not len(rows):
            raise DataError(f"{side.name} has no {metric}; recorded: {', '.join(side.told('metric'))}")
        found.append(set(rows["class"]))
    common = set.intersection(*found)
    if not common:
        told = "; ".join(f"{side.name}: {', '.join(sorted(own)[:8])}" for side, own in zip(sides, found))
        raise DataError(f"no class is on all sides, so the models do different tasks ({told}); compare models of the same classes")
    for side, own in zip(sides, found):
        if lacking := sorted(own - common):
            notes.append(f"classes of {side.name} left out, for not all sides have them: {', '.join(lacking[:8])}")
    return common


def pair(a: pd.DataFrame, b: pd.DataFrame, cases: set[str], classes: set[str], of: Measure) -> Paired:
    """Two sides' rows of one condition, as scores on the same cases and classes. Patients are called as on the first side."""
    a, b = (rows[rows["case"].isin(cases) & rows["class"].isin(classes)] for rows in (a, b))
    a, b = (rows.assign(value=of.oriented(rows["value"])) for rows in (a, b))
    has = [_defined(rows) for rows in (a, b)]
    both = has[0].intersection(has[1])
    scores = [lowest(rows[pd.MultiIndex.from_frame(rows[KEY]).isin(both)]) for rows in (a, b)]
    patients = a.drop_duplicates("case").set_index("case")["patient"]
    first, second = (s.assign(value=of.restored(s["value"]), patient=s["case"].map(patients)) for s in scores)
    return Paired(first, second, len(has[0].difference(has[1])), len(has[1].difference(has[0])))


def _defined(rows: pd.DataFrame) -> pd.MultiIndex:
    """The pairs of case and class of which every row has a value."""
    counted = rows.groupby(KEY)["value"].agg(["size", "count"])
    return counted.index[counted["size"] == counted["count"]]  # type: ignore[return-value]


def common_conditions(sides: Sequence[Side], metric: str, notes: list[str]) -> list[Condition]:
    """The conditions that all sides were scored under, worst cases of suites first; the others are told.

    A suite of the same name that is another one (by its digest) is not the same condition.

    Raises:
        DataError: nothing under attack is common.
    """
    found = [side.conditions(metric) for side in sides]
    common = sorted(set.intersection(*(set(own) for own in found)), key=lambda c: c.order)
    for condition in list(common):
        digests = {side.suite_digest(own[condition]) for side, own in zip(sides, found)} - {""}
        if len(digests) > 1:
            common.remove(condition)
            told = ", ".join(sorted(digests))
            notes.append(f"{condition.told}: not compared, for the suites of this name are different ones ({told})")
        ranges = {side.value_range(own[condition]) for side, own in zip(sides, found)} - {""}
        if condition.attack != "none" and len(ranges) > 1:
            told = "; ".join(sorted(ranges))
            notes.append(f"{condition.told}: the valid intensities differ ({told}), so what the attackers may do does, too")
    for side, own in zip(sides, found):
        alone = sorted((c for c in own if not all(c in other for other in found)), key=lambda c: c.order)
        if alone:
            told = "; ".join(c.told for c in alone[:4]) + ("; ..." if len(alone) > 4 else "")
            notes.append(f"of {side.name} alone, and not compared: {told}")
    if not any(c.attack != "none" for c in common):
        raise DataError(
            "no attack of one size, unit and norm is on all sides, so there is nothing to compare under attack; audit the models "
            "with the same suite and --eps" + "".join(f"\n  {note}" for note in notes)
        )
    return common
