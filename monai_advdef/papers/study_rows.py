"""The rows of a study over networks, attacks and attack strengths.

``rows`` are records with the added columns ``network`` (its name), ``training`` (seed of one of several alike), ``attack_row``
(:data:`CLEAN` or an attack) and ``eps`` (0 where clean). An image's value is the mean over its classes and the trainings.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from monai_advdef import stats

CLEAN = "clean"
IMAGE = ["case", "patient"]
Pairs = Sequence[tuple[str, str]]


def tidy(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric with the columns that :mod:`monai_advdef.stats` reads."""
    found = rows[rows["metric"] == metric].drop(columns=["attack", "seed"], errors="ignore")
    found = found.rename(columns={"attack_row": "attack", "training": "seed"})
    return found[["network", "seed", "attack", "eps", "class", *IMAGE, "value"]]


def per_image(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Columns ``network, attack, eps, case, patient, value``: the mean over classes and trainings."""
    return stats.per_case(tidy(rows, metric), ["network", "attack", "eps"])


def csv(rows: pd.DataFrame) -> pd.DataFrame:
    """Summary over images: network, training, attack, eps, metric, n, mean and std (population), a row for every cell."""
    key = ["network", "seed", "attack", "eps"]
    parts = [stats.summarize(tidy(rows, metric), key, resamples=1).assign(metric=metric) for metric in rows["metric"].unique()]
    table = pd.concat(parts, ignore_index=True).rename(columns={"seed": "training"})
    return table[["network", "training", "attack", "eps", "metric", "n", "mean", "std"]]
