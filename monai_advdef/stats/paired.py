"""Paired comparisons on the same cases: differences with their intervals, Wilcoxon's test, corrections over families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon

from monai_advdef.stats.cases import CELL, THREAT, attacked, bootstrap_interval, clean, per_case, worst_case

WAYS = (" through ", " from the oblivious images")
"""In the name of an attack: what follows is its way through a defence."""


class Comparison(NamedTuple):
    """Paired comparison of two sets of scores on the same cases; see :func:`compare`."""

    n: int
    patients: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    method: str


def _signed_rank(differences: np.ndarray) -> tuple[float, str]:
    """Two-sided Wilcoxon signed-rank test, zeros left out; exact for up to 25 untied differences, else the normal approximation."""
    moved = np.round(differences, 12)
    moved = moved[moved != 0]
    if not len(moved):
        return 1.0, "all differences are zero"
    exact = len(moved) <= 25 and len(np.unique(np.abs(moved))) == len(moved)
    method = "exact" if exact else "asymptotic"
    return float(wilcoxon(moved, zero_method="wilcox", method=method).pvalue), method


def compare(df_a: pd.DataFrame, df_b: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Paired comparison, a minus b, on the same cases: mean difference over cases with its patient-clustered 95 % interval, and
    the two-sided Wilcoxon signed-rank p over the patients' mean differences (so with one image per patient: over cases).

    Takes rows of records of one cell each, or the output of :func:`per_case`. Raises ``ValueError`` naming the cases only one has.
    """
    a, b = (per_case(df).set_index(["case", "patient"])["value"] for df in (df_a, df_b))
    return _paired(a, b, resamples, seed)


def _paired(a: pd.Series, b: pd.Series, resamples: int, seed: int) -> Comparison:
    """:func:`compare` of two series of scores indexed by case and patient."""
    differences = _paired_differences(a, b)
    patients = differences.index.get_level_values("patient").to_numpy()
    low, high = bootstrap_interval(differences.to_numpy(), patients, resamples=resamples, seed=seed)
    _, index = np.unique(patients, return_inverse=True)
    clusters = np.bincount(index, weights=differences.to_numpy()) / np.bincount(index)
    p, method = _signed_rank(clusters)
    return Comparison(len(differences), len(clusters), float(differences.mean()), low, high, p, method)


def _paired_differences(a: pd.Series, b: pd.Series) -> pd.Series:
    """a minus b where both are defined. Raises ``ValueError`` naming the cases only one has."""
    if not a.index.equals(b.index):
        lacking = sorted({case for case, _ in a.index.symmetric_difference(b.index)})
        raise ValueError(
            f"the two sets are not of the same cases: only one of them has {', '.join(lacking)}; run both on the same images"
        )
    return (a - b).dropna()


class SignedRank(NamedTuple):
    """Wilcoxon's test of paired scores with its effect; see :func:`signed_rank`."""

    n: int
    median: float
    ci_low: float
    ci_high: float
    effect: float
    p: float
    least_p: float
    method: str


def signed_rank(df_a: pd.DataFrame, df_b: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> SignedRank:
    """Two-sided Wilcoxon signed-rank test of a minus b, on the patients both have a defined score of, as journals report it.

    Args as for :func:`compare`. Returns the number of patients, the median of their differences with its 95 % percentile bootstrap
    interval, the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-) in [-1, 1] (Kerby, Comprehensive Psychology 3, 2014),
    p, and the least p that so many non-zero differences can reach (2 / 2^n): say so where that exceeds the level tested at.
    """
    a, b = (per_case(df).set_index(["case", "patient"])["value"] for df in (df_a, df_b))
    differences = _paired_differences(a, b).groupby(level="patient").mean().to_numpy()
    nan = float("nan")
    if not len(differences):
        return SignedRank(0, nan, nan, nan, nan, 1.0, 1.0, "no patient has both scores")
    draws = np.random.default_rng(seed).choice(differences, (resamples, len(differences)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    moved = np.round(differences, 12)
    moved = moved[moved != 0]
    ranks = rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0
    p, method = _signed_rank(differences)
    median, least = float(np.median(differences)), min(1.0, 2.0 ** (1 - len(moved)))
    return SignedRank(len(differences), median, float(low), float(high), effect, p, least, method)


def holm(pvalues: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values (Scand. J. Statist. 6:65, 1979), in the order given. NaN stays NaN and is not counted."""
    p = np.asarray(pvalues, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def compare_family(df: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Each cell (attack, threat, defence, adaptivity) of one metric, compared by :func:`compare`

    * against ``"clean"``: the same defence without an attack, and
    * against ``"undefended"``: the same attack on the network without a defence (for clean cells: the clean network).

    Returns the columns of ``CELL``, ``against``, those of :class:`Comparison`, and ``p_holm``: corrected over all comparisons of the
    same kind. A comparison whose partner was not run is left out. Raises ``ValueError`` where the cases of partners do not match.
    """
    under = attacked(df)
    cleans = _by_key(per_case(clean(df), ["defense"]), ["defense"])
    bare = _by_key(worst_case(under[under["defense"] == "none"], THREAT), THREAT)
    rows = []

    def add(key: tuple, against: str, cell: pd.Series, partner: pd.Series | None) -> None:
        if partner is not None:
            rows.append({**dict(zip(CELL, key)), "against": against, **_paired(cell, partner, resamples, seed)._asdict()})

    for (defense,), cell in cleans.items():
        if defense != "none":
            add(("none", 0.0, "", "", 0, 0, defense, False), "undefended", cell, cleans.get(("none",)))
    for key, cell in _by_key(per_case(under, CELL), CELL).items():
        defense = key[len(THREAT)]
        add(key, "clean", cell, cleans.get((defense,)))
        if defense != "none":
            add(key, "undefended", cell, bare.get((way(str(key[0]))[0], *key[1 : len(THREAT)])))
    table = pd.DataFrame(rows, columns=[*CELL, "against", *Comparison._fields])
    return table.assign(p_holm=table.groupby("against")["p"].transform(holm))


def way(attack: str) -> tuple[str, str]:
    """The name of an attack without its way through a defence, by which it is called where there is none, and that way."""
    at = min((attack.find(word) for word in WAYS if word in attack), default=len(attack))
    return attack[:at], attack[at:]


def _by_key(cases: pd.DataFrame, by: Sequence[str]) -> dict[tuple, pd.Series]:
    return {key: group.set_index(["case", "patient"])["value"] for key, group in cases.groupby(list(by))}
