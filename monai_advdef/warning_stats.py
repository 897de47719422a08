"""Does anything warn? From per-case signals (confidence, disagreement) and their alarms to shares of failed cases that were caught.

Knows numbers and rows of records only, neither torch nor MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monai_advdef import stats
from monai_advdef.diagnostic_stats import Estimate, auc, wilson_interval

SUSPICIOUS = {"confidence": -1, "confidence_foreground": -1, "entropy": 1, "disagreement": 1}
"""Metrics of class ``image`` that may warn: 1 where high values are suspicious, -1 where low ones are."""


def suspicion(name: str, values: ArrayLike) -> np.ndarray:
    """Values of one signal so that higher is more suspicious; undefined ones, which cannot warn, are the least suspicious."""
    found = np.asarray(values, dtype=float)
    return np.where(np.isnan(found), -np.inf, SUSPICIOUS[name] * found)


def alarm_threshold(suspicions: ArrayLike, rate: float) -> float:
    """The lowest threshold that at most a share ``rate`` of these (clean) cases exceeds; an alarm is a suspicion above it.

    With fewer than 1 / rate cases it is the largest of them, and the rate that it keeps is hardly known (see Wilson's interval).

    Raises:
        ValueError: no case, or a rate outside 0..1.
    """
    scores = np.sort(np.asarray(suspicions, dtype=float))[::-1]
    if not len(scores) or not 0 < rate < 1:
        raise ValueError(
            f"a threshold needs clean cases and a rate of false alarms above 0 and below 1, got {len(scores)} cases and {rate}"
        )
    return float(scores[math.floor(rate * len(scores) + 1e-9)])


def share(hits: ArrayLike) -> Estimate:
    """The share of true values with Wilson's interval; NaN where there is none to count."""
    found = np.asarray(hits, dtype=bool)
    low, high = wilson_interval(int(found.sum()), len(found))
    return Estimate(float(found.mean()) if len(found) else math.nan, low, high, len(found))


def area(name: str, clean: ArrayLike, attacked: ArrayLike) -> Estimate:
    """AUROC of one signal that tells attacked from clean cases, with DeLong's interval."""
    values = [suspicion(name, v) for v in (clean, attacked)]
    scores = np.concatenate(values)
    finite = scores[np.isfinite(scores)]
    scores = np.where(np.isfinite(scores), scores, (finite.min() if len(finite) else 0.0) - 1)
    return auc(scores, np.repeat([0, 1], [len(v) for v in values]))


def warnings_table(df: pd.DataFrame, names: Sequence[str] = tuple(SUSPICIOUS)) -> list[dict[str, Any]]:
    """One entry per cell (clean or attack, threat, defence) that holds readings of ``names``, clean cells first.

    Each holds the values of the columns of ``stats.CELL``, ``n``, ``dice`` (mean over cases), ``goal``, ``failed`` (cases whose
    Dice, the mean over classes, lies below the goal), ``rate`` (of false alarms, as the thresholds were set), ``means`` of every
    reading of class ``image``, and by signal ``auroc`` (against the clean cases of the same defence), ``alarms`` (share of all
    cases) and ``caught`` (share of the failed cases), as Estimates.
    """
    image = df[df["class"] == "image"]
    found = [name for name in names if (image["metric"] == name).any()]
    cells: dict[tuple, pd.DataFrame] = {}
    for key, rows in df[df["fingerprint"].isin(image[image["metric"].isin(found)]["fingerprint"].unique())].groupby(
        list(stats.CELL)
    ):
        wide = rows[rows["class"] == "image"].groupby(["case", "metric"])["value"].mean().unstack()
        dice = rows[rows["metric"] == "dice"].groupby("case")["value"].mean()
        cells[key if isinstance(key, tuple) else (key,)] = wide.assign(_dice=dice.reindex(wide.index))
    bare = {of["defense"]: wide for key, wide in cells.items() if (of := dict(zip(stats.CELL, key)))["attack"] == "none"}
    table = []
    for key, wide in sorted(cells.items(), key=lambda item: (item[0][0] != "none", *map(str, item[0]))):
        of = dict(zip(stats.CELL, key))
        goal = float(wide["dice_goal"].iloc[0]) if "dice_goal" in wide else math.nan
        failed = (wide["_dice"] < goal).to_numpy()
        clean = bare.get(of["defense"])
        entry: dict[str, Any] = {**of, "n": len(wide), "dice": wide["_dice"].mean(), "goal": goal, "failed": int(failed.sum())}
        entry["means"] = wide.drop(columns="_dice").mean().to_dict()
        entry["rate"] = entry["means"].get("alarm_rate", math.nan)
        for measure in ("auroc", "alarms", "caught"):
            entry[measure] = {}
        for name in (name for name in found if name in wide):
            alarm = (wide[f"{name}_alarm"] > 0.5).to_numpy()
            entry["alarms"][name], entry["caught"][name] = share(alarm), share(alarm[failed])
            if clean is not None and of["attack"] != "none" and name in clean:
                entry["auroc"][name] = area(name, clean[name], wide[name])
        table.append(entry)
    return table
