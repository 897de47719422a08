"""What a card is about: the rows of one task, model and metric, on the same cases, and the size of attack its headline speaks of."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.records import OWN_PREDICTION, read_provenance, read_records, unfinished
from monai_advdef.report import words
from monai_advdef.report.groups import latest, told_apart

UNREAD = ("forwards", "backwards", "seconds")
"""Columns of the records that no part of a card reads."""
METRIC_NAMES = {"dice": "Dice", "iou": "IoU"}


@dataclass(frozen=True)
class Scope:
    """The rows behind one card. ``eps`` is None where no bounded attack was run; ``left_out`` and ``unfinished`` name cells;
    ``others`` tells of those of other weights, data or deployment; ``members`` are the rows of the single runs of suites, which are
    in none of the others."""

    every: pd.DataFrame
    metric: str
    eps: float | None
    unit: str
    norm: str
    left_out: tuple[str, ...]
    unfinished: tuple[str, ...]
    others: tuple[str, ...] = ()
    members: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of the card's metric."""
        return self.every[self.every["metric"] == self.metric]

    @cached_property
    def stability(self) -> bool:
        """Whether the scores compare with the model's own clean prediction, and so tell how stable it is and not how accurate."""
        return "reference" in self.every and bool((self.every["reference"] == OWN_PREDICTION).any())

    @property
    def metric_name(self) -> str:
        """The card's metric as a reader knows it, within a sentence."""
        return self.named(self.metric)

    @property
    def heading(self) -> str:
        """The card's metric at the beginning of a line."""
        return self.metric_name[:1].upper() + self.metric_name[1:]

    @property
    def truth(self) -> str:
        """What predictions are compared with."""
        return "clean prediction" if self.stability else "truth"

    def named(self, metric: str) -> str:
        """A metric as a reader knows it: ``Dice``; ``stability`` or ``stability (IoU)`` where no label was given."""
        name = METRIC_NAMES.get(metric, metric)
        return name if not self.stability else "stability" if metric == self.metric else f"stability ({name})"

    @cached_property
    def clean(self) -> pd.DataFrame:
        """The rows without an attack."""
        return stats.clean(self.rows)

    def noise(self, eps: float | None = None) -> pd.DataFrame:
        """Noise of the card's norm and unit, of one size or of all."""
        return _of_size(self._bounded(is_noise(self.rows)), eps)

    def attacked(self, eps: float | None = None) -> pd.DataFrame:
        """Bounded attacks of the card's norm and unit, of one size or of all; noise is none of them."""
        return _of_size(self._bounded(~is_noise(self.rows)), eps)

    @cached_property
    def headline_rows(self) -> pd.DataFrame:
        """The attacks of the headline's size."""
        return self.attacked(self.eps) if self.eps is not None else self.rows.iloc[:0]

    @cached_property
    def defenses(self) -> list[str]:
        """No defence first, then the others from the highest headline to the lowest, those that are not assessed last."""
        names = sorted(self.rows["defense"].unique())
        rows = self.headline_rows
        score = stats.headline(rows).set_index("defense")["headline"].dropna() if len(rows) else pd.Series(dtype=float)
        return sorted(names, key=lambda name: (name != "none", -score.get(name, -1.0), name))

    def _bounded(self, wanted: pd.Series) -> pd.DataFrame:
        table = self.rows[wanted & (self.rows["attack"] != "none") & np.isfinite(self.rows["eps"])]
        return table[(table["norm"] == self.norm) & (table["unit"] == self.unit)]


def _of_size(rows: pd.DataFrame, eps: float | None) -> pd.DataFrame:
    return rows if eps is None else rows[rows["eps"] == eps]


def is_noise(rows: pd.DataFrame) -> pd.Series:
    """Which rows are of the noise baseline."""
    return rows["attack"].str.startswith("noise")


def read_scope(folder: Path, *, eps: float | None = None, model: str | None = None, run: str | None = None) -> Scope:
    """Read ``folder`` (records) and settle what the card speaks of: what was evaluated last, or in the cell ``run``.

    Raises ``ValueError`` where the records hold several tasks or models and ``model`` does not choose, or ``eps`` was not attacked.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="unfinished cells")  # the card itself names them
        table = read_records(folder)
    table = table if model is None or (table["model"] == model).all() else table[table["model"] == model]
    pairs = [f"{task} by {name}" for task, name in sorted(table[["task", "model"]].drop_duplicates().itertuples(index=False))]
    if len(pairs) != 1:
        known = sorted(read_records(folder)["model"].unique()) if not pairs else pairs
        raise ValueError(f"a card is about one task and one model, got {pairs or model!r}; choose `model` out of {known}")
    table, others = latest(table, read_provenance(folder), run)
    table = table.drop(columns=[name for name in UNREAD if name in table])
    member = stats.is_member(table)
    members = table[member]
    table, left_out = _same_cases(told_apart(table[~member] if len(members) else table))
    shown = [members[name].isin(table[name].unique()) for name in ("fingerprint", "case")]
    members = members[shown[0] & shown[1]]
    metric = "dice" if (table["metric"] == "dice").any() else str(table["metric"].iloc[0])
    norm, unit, chosen = _threat(table[table["metric"] == metric], eps)
    return Scope(table, metric, chosen, unit, norm, tuple(left_out), tuple(unfinished(folder)), tuple(others), told_apart(members))


def _same_cases(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows on the cases that most cells have, and the names of the cells that lack some of them and are left out."""
    cells = {name: frozenset(cases.unique()) for name, cases in table.groupby("fingerprint")["case"]}
    ranked = Counter(cells.values()).most_common()
    reference = max(ranked, key=lambda item: (item[1], len(item[0]), sorted(item[0])))[0]
    odd = [name for name, cases in cells.items() if not cases >= reference]
    within = ~table["fingerprint"].isin(odd) & table["case"].isin(reference)
    first = table[table["fingerprint"].isin(odd)].drop_duplicates("fingerprint")
    named = [
        f"{words.attack(row)}, {words.size(row['eps'], row['unit'])}, {words.defence(row['defense'])}" for _, row in first.iterrows()
    ]
    return (table if not odd and all(cases == reference for cases in cells.values()) else table[within]), named


def _threat(rows: pd.DataFrame, wanted: float | None) -> tuple[str, str, float | None]:
    """Norm, unit and size of the headline: the wanted size, else 8 where it was attacked, else the largest with noise beside it."""
    attacks = rows[(rows["attack"] != "none") & ~is_noise(rows) & np.isfinite(rows["eps"])]
    if not len(attacks):
        if wanted is not None:
            raise ValueError(f"eps={wanted:g} was not attacked; the records hold no attack of bounded size")
        return "", "", None
    norm = "linf" if (attacks["norm"] == "linf").any() else str(attacks["norm"].mode()[0])
    unit = str(attacks.loc[attacks["norm"] == norm, "unit"].mode()[0])
    mine = (rows["norm"] == norm) & (rows["unit"] == unit)
    sizes = set(attacks.loc[mine, "eps"].unique())
    if wanted is not None and wanted not in sizes:
        raise ValueError(f"eps={wanted:g} was not attacked; choose one of {', '.join(f'{e:g}' for e in sorted(sizes))} {unit}")
    with_noise = sizes & set(rows.loc[mine & is_noise(rows), "eps"].unique())
    return norm, unit, wanted if wanted is not None else 8.0 if 8.0 in sizes else max(with_noise or sizes)
