"""The tables of the card, and a table for documents, as plain rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.records import OWN_PREDICTION
from monai_advdef.report import words
from monai_advdef.report.groups import named, told_apart
from monai_advdef.report.scope import METRIC_NAMES, UNREAD, Scope, is_noise
from monai_advdef.report.suites import member_rows

NOT_ASSESSED = "not assessed"
"""In place of the number that a defence has under attack, where nobody who knows it has attacked it."""


class Score(NamedTuple):
    """A mean and its interval, as text."""

    mean: str
    interval: str = ""


def _scores(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Summary per defence of rows that hold one value per case, keyed by defence."""
    return {row["defense"]: row for _, row in stats.summarize(rows, ["defense"]).iterrows()} if len(rows) else {}


def _score(summary: pd.Series | None) -> Score | None:
    return None if summary is None else Score(words.fraction(summary["mean"]), words.interval(summary["ci_low"], summary["ci_high"]))


def _worst(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.worst_case(rows, ["defense"]) if len(rows) else rows


def headline_table(scope: Scope) -> list[dict]:
    """One row per defence: clean, noise, oblivious and adaptive (None where not run), p5, cost on clean images, and the headline;
    none where nobody who knows the defence has attacked it (``assessed``)."""
    rows = scope.headline_rows
    clean, noise = _scores(scope.clean), _scores(_worst(scope.noise(scope.eps)) if len(rows) else rows)
    sides = {name: _scores(_worst(stats.attacker(rows, name == "adaptive"))) for name in ("oblivious", "adaptive")}
    cases = stats.headline_cases(rows) if len(rows) else rows
    head = _scores(cases)
    source = dict(zip(cases["defense"], cases["attacker"])) if len(rows) else {}
    table = []
    for name in scope.defenses:
        known = name != "none" and name in clean and "none" in clean
        unknown = name != "none" and name in sides["oblivious"] and name not in sides["adaptive"]
        table.append(
            {
                "name": words.defence(name),
                "assessed": not unknown,
                "clean": _score(clean.get(name)),
                "noise": _score(noise.get(name)),
                "oblivious": _score(sides["oblivious"].get(name)),
                "adaptive": _score(sides["adaptive"].get(name)),
                "headline": "adaptive" if name == "none" else source.get(name),
                "p5": words.fraction(head[name]["p5"], 2) if name in head else NOT_ASSESSED if unknown else "–",
                "cost": words.gain(clean[name]["mean"] - clean["none"]["mean"]) if known else "–",
            }
        )
    return table


def class_table(scope: Scope) -> list[dict]:
    """One row per class: for each defence the clean score of that class and its score under the stronger of the two attackers, and
    whether it is assessed, see :func:`headline_table`."""
    rows = scope.headline_rows
    oblivious = set(rows["defense"]) - set(stats.attacker(rows, True)["defense"])
    table = []
    for name in sorted(scope.rows["class"].unique()):
        clean = _scores(scope.clean[scope.clean["class"] == name])
        head = _scores(stats.headline_cases(rows[rows["class"] == name])) if len(rows) else {}
        cells = [(_score(clean.get(d)), _score(head.get(d)), d not in oblivious) for d in scope.defenses]
        table.append({"name": name, "cells": cells})
    return table


def unbounded_table(scope: Scope) -> list[dict]:
    """One row per unbounded attack and defence: each metric under both attackers, and the measured size of the change."""
    rows = scope.every[np.isinf(scope.every["eps"])]
    metrics = [name for name in METRIC_NAMES if (rows["metric"] == name).any()]
    table = []
    for _, group in rows.groupby("attack"):
        found = {
            (metric, adaptive): _scores(_worst(stats.attacker(group[group["metric"] == metric], adaptive)))
            for metric in metrics
            for adaptive in (False, True)
        }
        for name in (name for name in scope.defenses if (group["defense"] == name).any()):
            own = stats.attacker(group[group["defense"] == name], True)
            own = own if len(own) else group[group["defense"] == name]
            scores = [_score(found[metric, adaptive].get(name)) for metric in metrics for adaptive in (False, True)]
            sizes = {"linf": f"{own['linf'].mean():.3g}", "l2": f"{own['l2'].mean():.3g}"}
            label = words.attack(group.iloc[0])
            table.append({"attack": label, "name": words.defence(name), "scores": scores, **sizes})
    return table


def cell_table(scope: Scope) -> list[dict]:
    """Every cell: n, mean ± std, median, 5th percentile and the corrected p-values against clean and against the undefended."""
    attacked = stats.attacked(scope.rows)
    clean = stats.summarize(scope.clean, ["defense"]).assign(
        attack="none", eps=0.0, unit="", norm="", steps=0, restarts=0, adaptive=False
    )
    cells = pd.concat([clean, stats.summarize(attacked, list(stats.CELL))] if len(attacked) else [clean], ignore_index=True)
    tests = stats.compare_family(scope.rows)
    p = {(*values[:-2], values[-2]): values[-1] for values in tests[[*stats.CELL, "against", "p_holm"]].itertuples(index=False)}
    order = {name: index for index, name in enumerate(scope.defenses)}
    kind = np.select([cells["attack"] == "none", is_noise(cells)], [0, 1], default=2)
    cells = cells.assign(order=cells["defense"].map(order), kind=kind)
    named = ["attack", "eps", "unit", "steps", "restarts", "defense", "adaptive"]
    stated = scope.rows[[*named, "fingerprint"]].drop_duplicates()
    stated = stated.assign(unit=stated["unit"].where(stated["attack"] != "none", ""))
    runs = stated.groupby(named)["fingerprint"].unique()
    table = []
    for _, row in cells.sort_values(["order", "kind", "attack", "steps", "eps", "adaptive"]).iterrows():
        key = tuple(row[list(stats.CELL)])
        knows = "–" if row["defense"] == "none" or row["kind"] < 2 else "yes" if row["adaptive"] else "no"
        run = runs[tuple(row[list(runs.index.names)])]
        table.append(
            {
                "defence": words.defence(row["defense"]),
                "attack": words.attack(row),
                "size": "–" if row["attack"] == "none" else words.size(row["eps"], row["unit"]),
                "knows": knows,
                "runs": f"run {', '.join(run)}",
                "n": row["n"],
                "mean": f"{words.fraction(row['mean'])} ± {words.fraction(row['std'])}",
                "median": words.fraction(row["median"]),
                "p5": words.fraction(row["p5"]),
                "p_clean": words.p_value(p.get((*key, "clean"))),
                "p_undefended": words.p_value(p.get((*key, "undefended"))),
            }
        )
    return table


def markdown_table(df: pd.DataFrame, facts: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """A Markdown table for documents: one row per attack, size, defence and attacker, with n and mean ± std (population) in per cent
    of IoU and Dice over cases. Records of several models, weights or data sets stand one below the other, named in a first column;
    ``facts``, their provenance, tells older ones apart. Where nobody who knows a defence has attacked it with that size, a row says
    that it is not assessed."""
    member = stats.is_member(df)
    members = df[member]
    df = df[~member] if len(members) else df
    groups = {
        name: rows.drop(columns=[c for c in (*UNREAD, "weights", "data") if c in rows])
        for name, rows in named(df, facts or {}).items()
    }
    names = " | ".join(f"{_score_name(df, metric)}, %" for metric in ("IoU", "Dice"))
    heads = [f"| attack | ε | defence | attacker | n | {names} |", "|---|---|---|---|---:|---:|---:|"]
    if len(groups) == 1:
        return "\n".join([*heads, *_markdown_lines(told_apart(next(iter(groups.values())))), *_markdown_members(members, df)]) + "\n"
    lines = [f"| network {heads[0]}", f"|---{heads[1]}"]
    for name, rows in groups.items():
        lines += [f"| {name} {line}" for line in _markdown_lines(told_apart(rows))]
    return "\n".join([*lines, *_markdown_members(members, df)]) + "\n"


def _score_name(df: pd.DataFrame, metric: str = "Dice") -> str:
    """What a metric is called in a table: stability where no labels were given; of several models the name of each says which."""
    return f"stability ({metric})" if "reference" in df and bool((df["reference"] == OWN_PREDICTION).all()) else metric


def _markdown_members(members: pd.DataFrame, rest: pd.DataFrame) -> list[str]:
    """A second table: the runs of every suite, the lowest first: on how many cases, and in which share it was the worst."""
    if not len(members):
        return []
    lines = [
        "",
        f"| suite | ε | defence | member | knows the defence | n | {_score_name(members)}, % | worst in |",
        "|---|---|---|---|---|---:|---:|---:|",
    ]
    for name, cell in told_apart(members).groupby("fingerprint", sort=False):
        row = cell.iloc[0]
        about = [f"{row['model']}, {row['suite']}", words.size(row["eps"], row["unit"]), words.defence(row["defense"])]
        for run in member_rows(cell, rest[rest["fingerprint"] == name]):
            dice = "–" if run["n"] == 0 else f"{100 * run['value']:.1f} ± {100 * run['std']:.1f}"
            told = [*about, run["attack"], run["knows"], str(run["n"]), dice, f"{100 * run['share']:.0f} %"]
            lines.append(f"| {' | '.join(told)} |")
    return lines


def _markdown_lines(df: pd.DataFrame) -> list[str]:
    """The rows of the table of one network."""
    lines = []
    metrics = ("iou", "dice")
    found: dict[tuple, dict[str, Any]] = {}
    for metric in metrics:
        rows = df[df["metric"] == metric]
        clean, attacked = stats.clean(rows), stats.attacked(rows)
        for _, row in stats.summarize(clean, ["defense"], resamples=1).iterrows() if len(clean) else ():
            found.setdefault((row["defense"] != "none", 0, "", 0.0, "no attack", "–", words.defence(row["defense"]), "–"), {})[
                metric
            ] = row
        for _, row in stats.summarize(attacked, list(stats.CELL), resamples=1).iterrows() if len(attacked) else ():
            noise = row["attack"].startswith("noise")
            knows = "–" if row["defense"] == "none" or noise else "adaptive" if row["adaptive"] else "oblivious"
            order = (row["defense"] != "none", 1 if noise else 2, row["attack"], row["eps"])
            key = (*order, words.attack(row), words.size(row["eps"], row["unit"]), words.defence(row["defense"]), knows)
            found.setdefault(key, {})[metric] = row
    assessed = {key[3:4] + key[5:7] for key in found if key[7] == "adaptive"}
    oblivious = [key for key in found if key[7] == "oblivious" and key[3:4] + key[5:7] not in assessed]
    found |= {(*key[:7], NOT_ASSESSED): {} for key in oblivious}
    for key in sorted(found, key=lambda key: (key[1:5], key[0], key[6:])):
        if key[7] == NOT_ASSESSED:
            lines.append(f"| {' | '.join([*key[4:7], 'adaptive', '–', NOT_ASSESSED, NOT_ASSESSED])} |")
            continue
        scores = [found[key].get(metric) for metric in metrics]
        n = max(row["n"] for row in scores if row is not None)
        texts = ["–" if row is None else f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" for row in scores]
        lines.append(f"| {' | '.join([*key[4:], str(n), *texts])} |")
    return lines
