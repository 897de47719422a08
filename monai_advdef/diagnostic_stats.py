"""Statistics of a diagnosis: sensitivity and specificity with Wilson intervals, AUC with DeLong's, Youden's threshold, a table.

Knows numbers and rows of records only, neither torch nor MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata


class Estimate(NamedTuple):
    """A share or an area with its confidence interval, and the number of cases behind it. NaN where there is no case."""

    value: float
    ci_low: float
    ci_high: float
    n: int


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (J. Am. Stat. Assoc. 22:209, 1927); NaN, NaN for n = 0.

    Raises:
        ValueError: not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} of {n}")
    if n == 0:
        return math.nan, math.nan
    z2 = norm.ppf((1 + confidence) / 2) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def sensitivity(decision: ArrayLike, truth: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """TP / (TP + FN) with Wilson's interval; ``decision`` and ``truth`` hold one 0 or 1 per case."""
    decided, true = _both(decision, truth)
    return _share(decided[true == 1] == 1, confidence)


def specificity(decision: ArrayLike, truth: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """TN / (TN + FP) with Wilson's interval; ``decision`` and ``truth`` hold one 0 or 1 per case."""
    decided, true = _both(decision, truth)
    return _share(decided[true == 0] == 0, confidence)


def auc(score: ArrayLike, truth: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Area under the ROC curve (a tie counts half) with the interval of DeLong et al. (Biometrics 44:837, 1988), cut to [0, 1].

    Higher scores speak for ``truth`` = 1. The interval is NaN with fewer than two cases of a class; it has no width where the
    classes are fully apart.
    """
    scores, true = _both(score, truth)
    positive, negative = scores[true == 1], scores[true == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return Estimate(math.nan, math.nan, math.nan, m + n)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n  # share of negatives below each positive
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(above.mean())
    if min(m, n) < 2:
        return Estimate(area, math.nan, math.nan, m + n)
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), m + n)


def youden_threshold(score: ArrayLike, truth: ArrayLike) -> float:
    """The threshold halfway between two scores for which "positive at or above it" has the largest sensitivity + specificity - 1
    (Youden, Cancer 3:32, 1950); the lowest of equals, which misses fewest.

    Raises:
        ValueError: only one class, or all scores equal.
    """
    scores, true = _both(score, truth)
    levels = np.unique(scores)
    if len(levels) < 2 or len(np.unique(true)) < 2:
        raise ValueError(f"a threshold needs cases of both classes and two different scores, got {len(scores)} cases; add cases")
    candidates = (levels[1:] + levels[:-1]) / 2
    gain = [(scores[true == 1] >= t).mean() - (scores[true == 0] >= t).mean() for t in candidates]
    return float(candidates[int(np.argmax(gain))])


def diagnosis_table(df: pd.DataFrame, by: Sequence[str] = ("defense",), *, reading: str = "cup_disc_ratio") -> pd.DataFrame:
    """Sensitivity, specificity and AUC of one reading per group, and how far the crops moved.

    Args:
        df: rows of records that hold the metrics ``truth``, ``reading``, ``positive_<reading>``, ``crop_shift_px``, ``disc_found``.
        by: the columns whose values make a group; within one, every case may occur once.
        reading: ``"cup_disc_ratio"`` or ``"probability"``.

    Returns:
        Columns ``[*by, "n"]``, then ``sensitivity``, ``specificity``, ``auc``, each followed by ``_low``, ``_high`` and ``_n``, then
        ``crop_shift_px`` (median, pixels) and ``disc_found`` (share).

    Raises:
        ValueError: a metric is missing; a case occurs twice in a group.
    """
    by = list(by)
    needed = ["truth", reading, f"positive_{reading}", "crop_shift_px", "disc_found"]
    if lacking := sorted(set(needed) - set(df["metric"])):
        raise ValueError(f"the records hold no {', '.join(lacking)}; evaluate with the bundle's diagnosis.yaml")
    rows = df[df["metric"].isin(needed)]
    twice = rows.duplicated([*by, "case", "metric"])
    if twice.any():
        case = rows.loc[twice, "case"].iloc[0]
        raise ValueError(f"the case {case!r} occurs more than once in a group; select one attack and seed, or name them in `by`")
    wide = rows.pivot(index=[*by, "case"], columns="metric", values="value").reset_index()
    table: list[dict[str, Any]] = []
    for key, group in wide.groupby(by) if by else [((), wide)]:
        row: dict[str, Any] = {**dict(zip(by, key)), "n": len(group)}
        decision, truth = group[f"positive_{reading}"], group["truth"]
        found = {"sensitivity": sensitivity(decision, truth), "specificity": specificity(decision, truth)}
        for name, estimate in {**found, "auc": auc(group[reading], truth)}.items():
            row |= {name: estimate.value, f"{name}_low": estimate.ci_low, f"{name}_high": estimate.ci_high, f"{name}_n": estimate.n}
        table.append({**row, "crop_shift_px": group["crop_shift_px"].median(), "disc_found": group["disc_found"].mean()})
    return pd.DataFrame(table)


def _both(values: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, true = np.asarray(values, dtype=float), np.asarray(truth, dtype=float)
    if first.shape != true.shape or first.ndim != 1 or not set(np.unique(true)) <= {0.0, 1.0}:
        raise ValueError(f"one value and one truth of 0 or 1 per case are needed, got shapes {first.shape} and {true.shape}")
    return first, true


def _share(right: np.ndarray, confidence: float) -> Estimate:
    n = len(right)
    low, high = wilson_interval(int(right.sum()), n, confidence=confidence)
    return Estimate(float(right.mean()) if n else math.nan, low, high, n)
