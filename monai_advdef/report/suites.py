"""What a suite's evaluation is made of: its worst case, which is the result, and the runs of its members, which explain it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope

RUN = ["attack", "adaptive", "steps", "restarts"]


def suites(scope: Scope) -> list[dict[str, Any]]:
    """One entry per suite and defence at the headline's size: its name, defence and rows, see :func:`member_rows`."""
    rows = scope.members
    rows = rows[(rows["eps"] == scope.eps) & (rows["norm"] == scope.norm) & (rows["unit"] == scope.unit)] if len(rows) else rows
    order = {name: index for index, name in enumerate(scope.defenses)}
    found = [
        {
            "suite": cell["suite"].iloc[0],
            "defence": words.defence(cell["defense"].iloc[0]),
            "order": (order.get(cell["defense"].iloc[0], len(order)), cell["suite"].iloc[0]),
            "rows": member_rows(cell, scope.every[scope.every["fingerprint"] == name], scope.metric),
        }
        for name, cell in (rows.groupby("fingerprint", sort=False) if len(rows) else ())
    ]
    return sorted(found, key=lambda entry: entry["order"])


def member_rows(members: pd.DataFrame, worst: pd.DataFrame, metric: str = "dice") -> list[dict[str, Any]]:
    """The runs of one cell, the lowest mean first: name, who attacks, on how many cases, the score over these and its interval, the
    share of all cases in which it was the worst (of equals the first run is), and the IoU with its own target, if it has one.

    Args:
        members: the rows of the runs.
        worst: the rows of the same cell that are not of a member.
        metric: that of the scores.
    """
    scores = members[members["metric"] == metric]
    runs = list(scores[RUN].drop_duplicates().itertuples(index=False, name=None))
    values = {run: stats.per_case(rows).set_index("case")["value"] for run, rows in _by_run(scores, runs)}
    shares = _shares(pd.DataFrame(values), worst)
    aims = {run: rows["value"].mean() for run, rows in _by_run(members[members["metric"] == "target_iou"], runs) if len(rows)}
    table = []
    for run, rows in _by_run(scores, runs):
        summary = stats.summarize(rows)
        row, found = rows.iloc[0], summary.iloc[0] if len(summary) and summary.iloc[0]["n"] else None
        table.append(
            {
                "attack": words.attack(row),
                "knows": "–" if row["defense"] == "none" else "yes" if row["adaptive"] else "no",
                "n": 0 if found is None else int(found["n"]),
                "value": np.inf if found is None else float(found["mean"]),
                "mean": "–" if found is None else words.fraction(found["mean"]),
                "std": np.nan if found is None else float(found["std"]),
                "interval": "" if found is None else words.interval(found["ci_low"], found["ci_high"]),
                "share": float(shares.get(run, 0.0)),
                "aim": words.fraction(aims.get(run)),
            }
        )
    return sorted(table, key=lambda entry: (entry["value"], entry["attack"]))


def _by_run(rows: pd.DataFrame, runs: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    for run in runs:
        yield run, rows[np.logical_and.reduce([rows[name] == value for name, value in zip(RUN, run)])]


def _shares(values: pd.DataFrame, worst: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """Of every run (column) the share of cases in which it is the lowest; a case that none made worse counts for none."""
    adaptive = worst["adaptive"].max() if len(worst) else False
    changed = worst[worst["adaptive"] == adaptive].groupby("case")["linf"].max()
    counted = values.dropna(how="all")
    counted = counted[counted.index.map(lambda case: changed.get(case, 1.0) > 0).astype(bool)]
    runs: list[Any] = values.columns.to_list()
    numbers = np.nanargmin(counted.to_numpy(), axis=1) if len(counted) else np.array([], dtype=int)
    return {run: float((numbers == k).sum()) / max(len(values), 1) for k, run in enumerate(runs)}
