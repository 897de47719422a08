"""How large the smallest change is for which a case fails: what the rows of a minimal-norm attack say, over cases.

All functions take rows of records (see :mod:`monai_advdef.records`) and do not depend on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from monai_advdef.stats import CELL, bootstrap_interval, per_case

SLACK = 0.005  # of Dice: an image on the edge of failing may be rounded to the other side in another batch


class NormSummary(NamedTuple):
    """Over cases; see :func:`summarize_norms`."""

    n: int
    never: int
    median: float
    sizes: tuple[float, ...]
    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def failing_norms(df: pd.DataFrame, goal: float = 0.5) -> pd.DataFrame:
    """Per case the size of its change, in the threat's norm, where its mean Dice is at or below ``goal``, else infinity.

    Args:
        df: rows of one cell, of an attack with a bound; best of :class:`monai_advdef.attacks.MinimalNorm` with the same ``goal``. Of
            any other attack the sizes are no smallest ones, only such that suffice.
        goal: Dice left at which a case has failed; half a hundredth above it counts, too.

    Returns:
        columns ``case, patient, value``, sorted.

    Raises:
        ValueError: rows of several cells, of a clean evaluation or of an unbounded attack; no rows of Dice; a relative eps.
    """
    rows = df[df["metric"] == "dice"]
    norms = set(rows["norm"])
    if norms not in ({"linf"}, {"l2"}):
        told = ", ".join(sorted(map(repr, norms))) or "no rows of Dice"
        raise ValueError(f"norms need the rows of one attack with norm 'linf' or 'l2', got {told}; select one attack and one threat")
    if rows["unit"].astype(str).str.contains("%").any():
        raise ValueError("eps is in per cent of each range, the sizes recorded are in image units; evaluate with relative: false")
    (norm,) = norms
    dice, size = per_case(rows), per_case(rows.assign(value=rows[norm]))
    return dice.assign(value=np.where(dice["value"] <= goal + SLACK, size["value"], np.inf))


def summarize_norms(df: pd.DataFrame, goal: float = 0.5, sizes: Sequence[float] | None = None) -> NormSummary:
    """The cases of :func:`failing_norms`: how many they are, how many never fail, the median norm (infinite where half never fail).

    And the share of cases that fail at or below each of ``sizes`` (default: an eighth, a quarter, a half and all of eps), with its
    95 % patient-clustered interval: the attack's success at each budget, from one run.
    """
    cases = failing_norms(df, goal)
    values, patients = cases["value"].to_numpy(), cases["patient"].to_numpy()
    marks = [float(df["eps"].max()) * part for part in (0.125, 0.25, 0.5, 1)] if sizes is None else [float(s) for s in sizes]
    below = [(values <= mark).astype(float) for mark in marks]
    bounds = [bootstrap_interval(hits, patients) for hits in below]
    never = int(np.isinf(values).sum())
    median = float(np.sort(values)[(len(values) - 1) // 2 : len(values) // 2 + 1].mean())
    shares = tuple(float(hits.mean()) for hits in below)
    return NormSummary(len(values), never, median, tuple(marks), shares, *map(tuple, zip(*bounds)))


def norms_in_words(df: pd.DataFrame, goal: float = 0.5, sizes: Sequence[float] | None = None) -> str:
    """The summary of one cell as a sentence: median, shares below each size, and how many cases never fail."""
    found = summarize_norms(df, goal, sizes)
    unit, norm, eps = (df[name].iloc[0] for name in ("unit", "norm", "eps"))
    at = f"the median case fails at {found.median:.3g} {unit} ({norm})"
    median = at if np.isfinite(found.median) else "half of the cases never fail"
    shares = ", ".join(f"{share:.0%} at or below {size:.3g}" for size, share in zip(found.sizes, found.shares))
    never = f"; {found.never} of {found.n} never fail within {eps:g}" if found.never else f"; all {found.n} fail within {eps:g}"
    return f"Dice {goal:g} or less: {median}; {shares}{never}"


def norm_table(df: pd.DataFrame, goal: float = 0.5, sizes: Sequence[float] | None = None) -> pd.DataFrame:
    """A line for each cell of ``df``: those of ``CELL``, ``n``, ``never``, ``median`` and a share for each size."""
    attacked = df[(df["attack"] != "none") & (df["metric"] == "dice")]
    lines = []
    for key, cell in attacked.groupby(list(CELL), dropna=False):
        found = summarize_norms(cell, goal, sizes)
        shares = {f"<= {size:g}": share for size, share in zip(found.sizes, found.shares)}
        lines.append({**dict(zip(CELL, key)), "n": found.n, "never": found.never, "median": found.median, **shares})
    return pd.DataFrame(lines)
