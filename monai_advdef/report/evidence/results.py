"""The results of an evaluation as plain numbers, a line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope

CLEAN, NOISE, ATTACKED, CLASS = "clean", "random noise", "under attack", "under attack, by class"


def results(scope: Scope) -> list[dict[str, Any]]:
    """Every defence clean, under noise and under attack at every size, and at the headline's size every class.

    A line has ``what``, ``defense``, ``class`` (empty: mean over classes), ``metric``, ``eps``, ``unit``, ``norm``, ``attacks``
    (names), ``headline``, ``n``, ``patients``, ``mean``, ``ci_low``, ``ci_high`` (95 %, bootstrap over patients), ``p5``; a number
    that there is not is None. A defence that nobody who knows it has attacked has no line under attack.
    """
    found = _lines(scope, CLEAN, stats.per_case(scope.clean, ["defense"]) if len(scope.clean) else scope.clean, None)
    for eps in sorted(scope.attacked()["eps"].unique().tolist()) if scope.eps is not None else ():
        noise, attacked = scope.noise(eps), scope.attacked(eps)
        if len(noise):
            found += _lines(scope, NOISE, stats.worst_case(noise, ["defense"]), eps, noise)
        found += _lines(scope, ATTACKED, _headline(attacked), eps, attacked)
    rows = scope.headline_rows
    for name in sorted(rows["class"].unique()) if len(rows) and rows["class"].nunique() > 1 else ():
        part = rows[rows["class"] == name]
        found += [{**line, "class": str(name)} for line in _lines(scope, CLASS, _headline(part), scope.eps, part)]
    return found


def members(scope: Scope) -> dict[str, list[str]]:
    """The attacks of which a suite's worst case is made, by suite."""
    found: dict[str, list[str]] = {}
    for name, rows in scope.members.groupby("suite") if len(scope.members) else ():
        found[str(name)] = _names(rows.sort_values(["attack", "steps", "restarts"]))
    return found


def _headline(rows: pd.DataFrame) -> pd.DataFrame:
    """As the headline counts: per case the worst attack, by the stronger of the two attackers; undefined values left out."""
    return stats.headline_cases(rows).dropna(subset="value")


def _lines(
    scope: Scope, what: str, cases: pd.DataFrame, eps: float | None, rows: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """A line per defence of rows that hold one value per case and defence."""
    summary = stats.summarize(cases, ["defense"]) if len(cases) else cases
    found = []
    for _, row in summary.iterrows():
        own = rows[rows["defense"] == row["defense"]] if rows is not None else None
        found.append(
            {
                "what": what,
                "defense": str(row["defense"]),
                "class": "",
                "metric": scope.metric_name,
                "eps": eps,
                "unit": scope.unit if eps is not None else "",
                "norm": scope.norm if eps is not None else "",
                "attacks": _names(own),
                "headline": what in (ATTACKED, CLASS) and bool(eps == scope.eps),
                "n": int(row["n"]),
                "patients": int(row["patients"]),
                **{name: _finite(row[name]) for name in ("mean", "ci_low", "ci_high", "p5")},
            }
        )
    order = {name: index for index, name in enumerate(scope.defenses)}
    return sorted(found, key=lambda line: order.get(line["defense"], len(order)))


def _names(rows: pd.DataFrame | None) -> list[str]:
    """The attacks of some rows, as a reader knows them."""
    if rows is None or not len(rows):
        return []
    return list(dict.fromkeys(words.attack(row) for _, row in rows.drop_duplicates(["attack", "steps", "restarts"]).iterrows()))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
