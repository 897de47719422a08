"""Whether a model is not worse than an earlier one by more than a margin, on the same cases under the same attacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.comparison.measures import OWN, STABILITY, Measure, measure
from monai_advdef.comparison.pairing import Paired, common_cases, common_classes, common_conditions, pair
from monai_advdef.comparison.sides import Condition, Side, read_side
from monai_advdef.errors import DataError
from monai_advdef.gates.evaluate import GateResult
from monai_advdef.report import words

MARGIN = 0.02
FEW = 6
"""Patients below which a bootstrap interval is known to be too narrow, which is told."""


def check_margin(margin: float) -> float:
    """The margin of a command line.

    Raises:
        DataError: it is not between 0 and 1.
    """
    if not (isinstance(margin, (int, float)) and not isinstance(margin, bool) and 0 <= margin < 1):
        raise DataError(
            f"--margin must be a loss of Dice that is accepted, 0 or more and below 1, got {margin!r}; 0.02 is two points"
        )
    return float(margin)


def check_baseline(baseline: str | Path, cases: Sequence[str] = ()) -> None:
    """Find out before the work whether the records of an earlier audit can be read, and are of cases that will be audited.

    Args:
        baseline: output folder, or folder of records.
        cases: what will be audited, as the records call it; empty: not compared.

    Raises:
        DataError: there are no records, they are of several models, or of other cases alone.
        RecordError: a file is damaged.
    """
    side = read_side(baseline)
    if cases and not side.cases & set(cases):
        raise DataError(
            f"--baseline {baseline} holds none of the {len(cases)} cases of this audit: another data set, or evaluated under other "
            "names; audit the earlier model on these data first"
        )


def evaluate_baseline(
    folder: str | Path,
    baseline: str | Path,
    *,
    margin: float = MARGIN,
    model: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[GateResult]:
    """Compare the records of ``folder`` with those of ``baseline``, by Dice (stability where there were no labels).

    One result for each condition that both have: the clean images, and every attack of one size. Scores are paired by case and
    class, and averaged over classes; a result passes where the lower end of the 95 % interval of the mean difference, new minus
    baseline, patients drawn with replacement, lies above ``-margin``: a one-sided test at 2.5 %, as is the custom for
    non-inferiority. All must pass, so no correction is due. Where every case has the same score it passes, too.

    Args:
        folder, baseline: output folders, or folders of records.
        margin: loss of Dice that is accepted.
        model: which, where the new records hold several.

    Returns:
        The results; a single one that is missed, with the reason, where the two cannot be compared: other data under the same
        names, no case, class, or attack in common, labels on one side alone.

    Raises:
        DataError: there are no records, or the margin is none.
        RecordError: a file is damaged.
    """
    margin = check_margin(margin)
    sides = [read_side(folder, "this audit", model=model), read_side(baseline, "the baseline")]
    try:
        return _results(sides, margin, resamples, seed)
    except DataError as why:
        return [GateResult("baseline", False, None, None, 0, 0, f"cannot be compared: {why}", "baseline")]


def _results(sides: Sequence[Side], margin: float, resamples: int, seed: int) -> list[GateResult]:
    notes: list[str] = []
    new, old = sides
    if new.reference != old.reference:
        raise DataError(f"this audit scored against {new.reference}, the baseline against {old.reference}")
    of = measure(STABILITY if new.reference == OWN else "dice")
    classes, cases = common_classes(sides, "dice", notes), common_cases(sides, notes)
    _refuse_other_data(new, old)
    conditions = [c for c in common_conditions(sides, "dice", notes) if c.attack != "none" or of.name != STABILITY]
    notes += [f"of {side.name}, left out: {text}" for side in sides for text in side.left_out]
    found = [side.conditions("dice") for side in sides]
    results = []
    for condition in conditions:
        a, b = (own[condition] for own in found)
        try:
            paired = pair(a, b, cases, classes, of)
        except ValueError as error:
            raise DataError(f"{condition.told}: {error}") from error
        doubts = [d for side, rows in zip(sides, (a, b)) for d in side.doubts(set(rows["fingerprint"]))]
        told = [*_worst_class(a, b, cases, classes, of), *notes]
        results.append(_result(condition, paired, margin, of, doubts, told, resamples, seed))
    return results


def _worst_class(a: pd.DataFrame, b: pd.DataFrame, cases: set[str], classes: set[str], of: Measure) -> list[str]:
    """The class that lost most, where there are several: small ones vary too much to be judged one by one."""
    if len(classes) < 2:
        return []
    losses = {}
    for name in sorted(classes):
        paired = pair(a, b, cases, {name}, of)
        if len(paired.a):
            losses[name] = float(paired.a["value"].mean() - paired.b["value"].mean())
    name = min(losses, key=lambda key: losses[key], default="")
    return [f"of the classes {name} has changed for the worst, by {words.gain(losses[name])}"] if name and losses[name] < 0 else []


def _refuse_other_data(new: Side, old: Side) -> None:
    """Refuse cases of the same names that hold something else: then a name does not say that two scores belong together."""
    data = new.told("data"), old.told("data")
    if all(data) and data[0] != data[1] and new.cases == old.cases:
        told = " and ".join(", ".join(words.short_hash(digest) for digest in digests) for digests in data)
        raise DataError(
            f"the cases have the same names but are not loaded the same (data {told}): other files, other labels or another "
            "preprocessing; audit the baseline's model anew on these data"
        )


def _result(
    condition: Condition, paired: Paired, margin: float, of: Measure, doubts: list[str], notes: list[str], resamples: int, seed: int
) -> GateResult:
    name = f"baseline: {of.name}, {condition.told}"
    if not len(paired.a):
        return GateResult(name, False, None, None, 0, 0, f"not known: no case has a {of.name} on both sides", "baseline")
    found = stats.compare(paired.a, paired.b, resamples=resamples, seed=seed)
    interval = None if math.isnan(found.ci_low) else (found.ci_low, found.ci_high)
    means = [words.fraction(float(scores["value"].mean())) for scores in (paired.a, paired.b)]
    around = "" if interval is None else f" (95 % interval {words.gain(interval[0])} to {words.gain(interval[1])})"
    on = f"{words.count(found.n, 'image')} of {words.count(found.patients, 'patient')}"
    told = f"{means[0]} against {means[1]}, a difference of {words.gain(found.difference)}{around} on {on}"
    equal = bool(np.allclose(paired.a["value"], paired.b["value"], rtol=0, atol=1e-9))
    kept = equal or (interval is not None and interval[0] > -margin)
    if doubts:
        why = f", but it cannot be trusted: {doubts[0]}"
    elif paired.only_b:
        why = f", but {words.count(paired.only_b, 'pair')} of case and class that the baseline has a value of have none here"
    elif not kept and interval is None:
        why = "; one patient has no interval, so that it is not worse cannot be shown: give more patients"
    elif not kept:
        why = f"; a loss of more than {words.fraction(margin)} is not ruled out"
    else:
        few = (
            f"; the interval of {found.patients} patients is narrower than it should be" if interval and found.patients < FEW else ""
        )
        why = "; the same on every image" if equal else f"; a loss of more than {words.fraction(margin)} is ruled out{few}"
    passed = kept and not doubts and not paired.only_b
    reason = "; ".join([told + why, *notes])
    return GateResult(name, passed, found.difference, interval, found.n, found.patients, reason, "baseline")
