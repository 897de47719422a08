"""Statistics over cases: summaries with patient-clustered intervals, paired tests, the worst case and the headline.

All functions take rows of records (see :mod:`monai_advdef.records`) and are deterministic: they do not depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon

THREAT = ("attack", "eps", "unit", "norm", "steps", "restarts")
"""What tells one attack from another; together with ``defense`` and ``adaptive`` it names a cell of the table."""
CELL = (*THREAT, "defense", "adaptive")
WAYS = (" through ", " from the oblivious images")
"""In the name of an attack: what follows is its way through a defence."""
_ONE_OF = ("task", "model", "metric", "suite", "reference", *CELL)


class Comparison(NamedTuple):
    """Paired comparison of two sets of scores on the same cases; see :func:`compare`."""

    n: int
    patients: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    method: str


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """The clean rows, without the columns that have no meaning where there is no attack."""
    return df[df["attack"] == "none"].drop(columns=[name for name in (*THREAT[1:], "adaptive") if name in df])


def attacker(df: pd.DataFrame, adaptive: bool) -> pd.DataFrame:
    """Rows of the attacker who knows the defence (adaptive) or does not. Where there is no defence the two are the same."""
    return df[(df["adaptive"] == adaptive) | (df["defense"] == "none")]


def is_member(df: pd.DataFrame) -> pd.Series:
    """Which rows are of the single runs of a suite: those of a cell that has a worst case (attack ``worst``) and are not it.

    The worst case is the suite's result, scored by the deployed pipeline; its members' scores explain it.
    """
    if "fingerprint" not in df or not len(df):
        return pd.Series(False, index=df.index)
    worst = df["attack"].str.match(r"worst\b")
    return ~worst & df["fingerprint"].isin(df.loc[worst & (df["suite"] != ""), "fingerprint"])


def per_case(df: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per group and case: the mean over classes and seeds, undefined (NaN) values left out.

    Returns columns ``[*by, "case", "patient", "value"]``, sorted. Raises ``ValueError`` where a group mixes attacks, threats,
    metrics or defences, or holds two different results (more than 0.001 apart) for the same case, class and seed.
    """
    by = list(by)
    for name in (name for name in _ONE_OF if name in df and name not in by):
        if df[name].nunique() > 1 and (not by or df.groupby(by)[name].nunique().max() > 1):
            raise ValueError(f"rows differ in {name!r} ({sorted(df[name].unique())}); select one or name it in `by`")
    unit = [*by, "case", "patient", *(name for name in ("class", "seed") if name in df and name not in by)]
    values = df.groupby(unit, dropna=False)["value"].agg(["mean", "min", "max"]).reset_index()
    apart = values[values["max"] - values["min"] > 1e-3]
    if len(apart):
        raise ValueError(
            f"two different results for {apart.iloc[0][unit].to_dict()}; give the two attacks different names, "
            "or remove the cell that is out of date"
        )
    return values.rename(columns={"mean": "value"}).groupby([*by, "case", "patient"], as_index=False)["value"].mean()


def bootstrap_interval(values: np.ndarray, patients: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over cases. Whole patients are drawn with replacement, because the images of
    one patient are not independent (the cluster bootstrap). NaN, NaN with fewer than two patients."""
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = (draws @ np.bincount(index, weights=values)) / (draws @ np.bincount(index))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarize(df: pd.DataFrame, by: Sequence[str] = (), *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Over cases, per group: n, patients, mean, std (population), median, p5 (5th percentile), ci_low, ci_high (95 %, see
    :func:`bootstrap_interval`). Cases whose value is undefined are not counted."""
    cases = per_case(df, by).dropna(subset="value")
    rows = []
    for key, group in cases.groupby(list(by)) if by else [((), cases)][: len(cases)]:
        values, patients = group["value"].to_numpy(), group["patient"].to_numpy()
        low, high = bootstrap_interval(values, patients, resamples=resamples, seed=seed)
        centre = {"mean": values.mean(), "std": values.std(), "median": np.median(values), "p5": np.percentile(values, 5)}
        rows.append(
            {**dict(zip(by, key)), "n": len(values), "patients": len(set(patients)), **centre, "ci_low": low, "ci_high": high}
        )
    return pd.DataFrame(rows, columns=[*by, "n", "patients", "mean", "std", "median", "p5", "ci_low", "ci_high"])


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
    attacked = df[df["attack"] != "none"]
    cleans = _by_key(per_case(clean(df), ["defense"]), ["defense"])
    bare = _by_key(worst_case(attacked[attacked["defense"] == "none"], THREAT), THREAT)
    rows = []

    def add(key: tuple, against: str, cell: pd.Series, partner: pd.Series | None) -> None:
        if partner is not None:
            rows.append({**dict(zip(CELL, key)), "against": against, **_paired(cell, partner, resamples, seed)._asdict()})

    for (defense,), cell in cleans.items():
        if defense != "none":
            add(("none", 0.0, "", "", 0, 0, defense, False), "undefended", cell, cleans.get(("none",)))
    for key, cell in _by_key(per_case(attacked, CELL), CELL).items():
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


def worst_case(df: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Per group and case the lowest value over attacks: the mean of these is the mean over cases of the worst attack, which is lower
    than the mean of the attack that is worst on average.

    Returns columns ``[*by, "case", "patient", "value", "worst_attack"]``. Raises ``ValueError`` naming the cases that some attack
    of a group lacks.
    """
    by = list(by)
    tried = [name for name in (*THREAT, "adaptive") if name in df and name not in by]
    values = per_case(df, [*by, *tried])
    for _, group in values.groupby(by) if by else [((), values)]:
        counts = group["case"].value_counts()
        if lacking := sorted(counts.index[counts < counts.max()]):
            attacks = sorted(group["attack"].unique())
            raise ValueError(f"not every attack of {attacks} has the cases {', '.join(lacking)}; run all on the same images")
    lowest = values.sort_values(["value", *tried], na_position="last", kind="stable").drop_duplicates([*by, "case"])
    lowest = lowest.assign(worst_attack=lowest["attack"]).sort_values([*by, "case"], ignore_index=True)
    return lowest[[*by, "case", "patient", "value", "worst_attack"]]


def headline_cases(df: pd.DataFrame) -> pd.DataFrame:
    """Per defence, the scores per case under whichever attacker has the lower mean: oblivious, or adaptive (knows the defence).

    A defence that nobody who knows it has attacked is not assessed, and has none. ``df`` holds the attacked rows of one threat; of a
    suite its worst case counts, see :func:`is_member`. Returns columns ``defense, case, patient, value, attacker``.
    """
    df = df[~is_member(df)]
    known = attacker(df, True)["defense"].unique()
    return _lower_side(df[df["defense"].isin(known)])


def _lower_side(df: pd.DataFrame) -> pd.DataFrame:
    sides = [worst_case(rows, ["defense"]).assign(attacker=name) for name, rows in _sides(df).items() if len(rows)]
    if not sides:
        return pd.DataFrame(columns=["defense", "case", "patient", "value", "attacker"])
    cases = pd.concat(sides)
    means = cases.groupby(["defense", "attacker"])["value"].mean().reset_index().sort_values(["value", "attacker"])
    lower = means.drop_duplicates("defense")[["defense", "attacker"]]
    cases = cases.drop(columns="worst_attack").merge(lower, on=["defense", "attacker"])
    return cases.sort_values(["defense", "case"], ignore_index=True)


def headline(df: pd.DataFrame) -> pd.DataFrame:
    """Per defence: ``oblivious`` and ``adaptive`` (means over cases of the worst attack; NaN where not run), the ``headline`` (the
    lower of the two; NaN where nobody who knows the defence has attacked it), its ``source``, the side with the lower mean, and
    ``casewise`` (mean over cases of the worst of both, never above the headline). Of a suite its worst case counts, see
    :func:`is_member`."""
    df = df[~is_member(df)]
    sides = {
        name: worst_case(rows, ["defense"]).groupby("defense")["value"].mean() for name, rows in _sides(df).items() if len(rows)
    }
    table = pd.DataFrame(sides).reindex(columns=["oblivious", "adaptive"])
    cases = _lower_side(df).groupby("defense")
    table["headline"], table["source"] = cases["value"].mean().where(table["adaptive"].notna()), cases["attacker"].first()
    table["casewise"] = worst_case(df, ["defense"]).groupby("defense")["value"].mean()
    return table.rename_axis("defense").reset_index()


def _sides(df: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"adaptive": attacker(df, True), "oblivious": attacker(df, False)}
