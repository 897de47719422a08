"""Statistics over cases: summaries with patient-clustered intervals, the worst case and the headline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

THREAT = ("attack", "eps", "unit", "norm", "steps", "restarts")
"""What tells one attack from another; together with ``defense`` and ``adaptive`` it names a cell of the table."""
CELL = (*THREAT, "defense", "adaptive")
PIECE = 50_000
"""Rows that are grouped at a time, so that memory is that of the table itself."""
KEPT, BLOCK = 8_000_000, 250_000
"""Numbers of a set of resamples that is kept for the next interval over as many patients, a byte each, and of a part of it."""
_ONE_OF = ("task", "model", "metric", "suite", "reference", *CELL)
_READ = (*_ONE_OF, "case", "patient", "class", "seed", "value", "fingerprint")  # columns that statistics look at


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """The clean rows, without the columns that have no meaning where there is no attack."""
    return df[df["attack"] == "none"].drop(columns=[name for name in (*THREAT[1:], "adaptive") if name in df])


def attacked(df: pd.DataFrame) -> pd.DataFrame:
    """The attacked rows, with the columns that statistics look at."""
    return df[[name for name in df if name in _READ]][df["attack"] != "none"]


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
    suites = df.loc[worst & (df["suite"] != ""), "fingerprint"].unique()
    return ~worst & df["fingerprint"].isin(suites) if len(suites) else pd.Series(False, index=df.index)


def per_case(df: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per group and case: the mean over classes and seeds, undefined (NaN) values left out.

    Returns columns ``[*by, "case", "patient", "value"]``, sorted. Raises ``ValueError`` where a group mixes attacks, threats,
    metrics or defences, or holds two different results (more than 0.001 apart) for the same case, class and seed.
    """
    by, df = list(by), df[[name for name in df if name in _READ or name in by]]
    if not by or len(df) <= PIECE:
        return _per_case(df, by)
    values = sorted(df[by[0]].unique())
    return pd.concat([_per_case(df[df[by[0]] == value], by) for value in values], ignore_index=True)


def _per_case(df: pd.DataFrame, by: list[str]) -> pd.DataFrame:
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


@lru_cache(maxsize=4)
def _drawn(patients: int, resamples: int, seed: int) -> np.ndarray:
    """How often each patient is drawn, (resamples, patients), in the smallest type that holds it."""
    draw, chances = np.random.default_rng(seed), np.full(patients, 1 / patients)
    step = max(1, BLOCK // patients)
    blocks = [draw.multinomial(patients, chances, size=min(step, resamples - at)) for at in range(0, resamples, step)]
    most = max(int(block.max()) for block in blocks)
    return np.concatenate([block.astype(np.min_scalar_type(most)) for block in blocks])


def bootstrap_interval(values: np.ndarray, patients: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over cases. Whole patients are drawn with replacement, because the images of
    one patient are not independent (the cluster bootstrap). NaN, NaN with fewer than two patients."""
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    draws = (_drawn if resamples * len(names) <= KEPT else _drawn.__wrapped__)(len(names), resamples, seed)
    total, count = np.bincount(index, weights=values), np.bincount(index).astype(float)
    step = max(1, BLOCK // len(names))
    blocks = (draws[at : at + step].astype(float) for at in range(0, resamples, step))
    means = np.concatenate([(block @ total) / (block @ count) for block in blocks])
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
