"""Which evaluations belong into one table (one network with its weights, one data set), and which rows are of one attack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_advdef.records import LABELS
from monai_advdef.report import words
from monai_advdef.stats import CELL

_APART = 1e-3  # of two results for one case, as in stats.per_case


class Victim(NamedTuple):
    """What was evaluated, as digests, and against what it was scored; a part that older records do not tell is empty."""

    weights: str
    data: str
    deployed: str = ""
    reference: str = LABELS

    def fits(self, other: Victim) -> bool:
        """Whether the two may be the same: they agree in all that both tell."""
        return all(a == b or not a or not b for a, b in zip(self, other))


def victims(table: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Victim]:
    """What every cell of ``table`` evaluated, by fingerprint; ``facts`` is their provenance."""
    found = {}
    for _, row in table.drop_duplicates("fingerprint").sort_values("fingerprint").iterrows():
        name = row["fingerprint"]
        entry = facts.get(str(name), {})
        known = (entry.get("config") or {}).get("identity") or {}
        weights, data = (str(entry.get(part) or row.get(part, "")) for part in ("weights", "data"))
        deployed = " ".join(str(known.get(part, "")) for part in ("network", "inferer", "after")).strip()
        found[str(name)] = Victim(weights, data, deployed, str(row.get("reference", "")) or LABELS)
    return found


def latest(table: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]], run: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The rows of what was evaluated last, or in the cell ``run``, and in words what other evaluations the table holds."""
    of = victims(table, facts)
    dated = [(str(facts.get(name, {}).get("recorded", "")), name) for name in of]
    if not dated:
        return table, []
    chosen = of[run if run in of else max(dated)[1]]
    others = {name: victim for name, victim in of.items() if not victim.fits(chosen)}
    told: dict[str, int] = {}
    for victim in others.values():
        told[_other(victim, chosen)] = told.get(_other(victim, chosen), 0) + 1
    left = [f"{words.count(count, 'run')} {text}" for text, count in sorted(told.items())]
    return (table[~table["fingerprint"].isin(list(others))] if others else table), left


def _other(victim: Victim, chosen: Victim) -> str:
    parts = [f"with weights {words.short_hash(victim.weights)}"] if not _same(victim.weights, chosen.weights) else []
    parts += [f"on data {words.short_hash(victim.data)}"] if not _same(victim.data, chosen.data) else []
    parts += [f"scored against {victim.reference}"] if victim.reference != chosen.reference else []
    return " ".join(parts) or "deployed in another way"


def _same(a: str, b: str) -> bool:
    return a == b or not a or not b


def named(table: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """The rows of every task, model, weights, data set and deployment by a name that says in what they differ."""
    of = victims(table, facts)
    cells = table[["task", "model", "fingerprint"]].drop_duplicates()
    full = [(task, model, *of[name]) for task, model, name in cells.itertuples(index=False)]
    parts = pd.DataFrame(full, index=cells.index, columns=["task", "model", *Victim._fields])
    several = [name for name in parts if parts[name].nunique() > 1]
    groups: dict[str, pd.DataFrame] = {}
    for key, index in parts.groupby(list(parts), sort=False).groups.items():
        part, own = dict(zip(parts, key)), cells.loc[index]
        rows = table[(table["task"] == part["task"]) & (table["model"] == part["model"])] if len(own) < len(cells) else table
        rows = rows[rows["fingerprint"].isin(own["fingerprint"].unique())] if len(own) < len(cells) else rows
        told = [part["task"]] if "task" in several else []
        told.append(part["model"])
        told += [f"against {part['reference']}"] if "reference" in several else []
        told += [f"{name} {words.short_hash(part[name])}" for name in ("weights", "data") if name in several and part[name]]
        name = ", ".join(told)
        groups[f"{name}, run {words.short_hash(rows['fingerprint'].iloc[0])}" if name in groups else name] = rows
    return groups


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with units that say where eps is the length of the whole change, or each channel has a budget of its own, and attacks
    that say of which suite they are the worst case, and which run they are of where two runs of one name disagree."""
    table = table.copy()
    worst = table["attack"].str.match(r"worst\b") & (table["suite"] != "")
    table.loc[worst, "attack"] = words.WORST + table.loc[worst, "suite"] + table.loc[worst, "attack"].str.removeprefix("worst")
    table.loc[table["norm"] == "l2", "unit"] += words.IN_L2
    if "budget" in table:
        own = table["budget"].str.startswith("[")
        table.loc[own, "unit"] = table.loc[own, "unit"] + words.BY_CHANNEL + table.loc[own, "budget"]
    keys = ["task", "model", *CELL]
    cells = table[[*keys, "fingerprint"]].drop_duplicates()
    cells = cells[(cells["attack"] != "none") & cells.duplicated(keys, keep=False)]
    for _, same in cells.groupby(keys, dropna=False):
        own = table[table["fingerprint"].isin(same["fingerprint"].unique())]
        rows = own[np.logical_and.reduce([own[key] == same[key].iloc[0] for key in keys])]
        values = rows.groupby(["case", "class", "metric", "seed"], dropna=False)["value"].agg(["min", "max"])
        if (values["max"] - values["min"] > _APART).any():
            runs = rows["fingerprint"].map(lambda name: f"{words.OF_RUN}{words.short_hash(name)})")
            table.loc[rows.index, "attack"] = rows["attack"] + runs
    return table
