"""Numbers of a study of deformations and intensity changes, from records alone: Dice pooled over patients, drops, sizes of change.

``rows`` are records of attacks by fields with the added columns ``kind`` (:data:`GENERATOR` or :data:`FIELDS`), ``xi``, ``parts``
and ``run``: one of several evaluations of one line of a table, such as the epoch of a generator, or the factor of a penalty.

Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019, table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

GENERATOR, FIELDS, EQUAL = "generator", "field attack", "field attack at equal perceptibility"
KEY = ["kind", "xi", "parts", "run"]
SUCCESS = 0.3
"""An attack succeeds where Dice falls by 30 % of the clean one (Chen et al. 2019)."""
TOLERANCE = 0.05
"""By which share the perceptibility of one attack may lie above another's and still be called equal: the project's own criterion."""
DICES = {"clean": "clean_", "dice": "", "warped": "warped_", "motion": "motion_"}
"""Prefix of the metrics behind each Dice: of the clean image, against the label as it is, as warped, of the two labels."""


@dataclass(frozen=True)
class Line:
    """One line of the table: all runs of one attack.

    Attributes:
        name: what the line is called.
        kind, xi, parts: of the attack.
        rows: its records.
        per: ``"patient"``: voxels are pooled over the slices of a patient; ``"case"``: every slice or volume for itself.
    """

    name: str
    kind: str
    xi: float
    parts: str
    rows: pd.DataFrame
    per: str = "patient"

    @cached_property
    def dices(self) -> pd.DataFrame:
        """See :func:`pooled`."""
        return pooled(self.rows, self.per)

    @cached_property
    def organs(self) -> dict[str, dict[str, float]]:
        """By organ, for every Dice of :data:`DICES` its mean and ``_std`` over patients and the range ``_low``, ``_high`` of its
        mean over runs; ``drop`` and ``warped_drop``, relative to the clean mean; ``n`` patients."""
        found: dict[str, dict[str, float]] = {}
        for organ, part in self.dices.groupby("class", sort=False):
            entry: dict[str, float] = {}
            for name in DICES:
                units, runs = (part.groupby(by)[name].mean() for by in (self.per, "run"))
                entry |= {
                    name: units.mean(),
                    f"{name}_std": units.std(ddof=0),
                    f"{name}_low": runs.min(),
                    f"{name}_high": runs.max(),
                }
            entry |= {"drop": drop(entry["clean"], entry["dice"]), "warped_drop": drop(entry["clean"], entry["warped"])}
            found[str(organ)] = {**entry, "n": part[self.per].nunique()}
        return found

    def reading(self, metric: str) -> pd.Series:
        """What was measured on the images (class ``image``) for each run and case."""
        part = self.rows[(self.rows["class"] == "image") & (self.rows["metric"] == metric)]
        return part.groupby(["run", "case"])["value"].mean()

    @property
    def perceptibility(self) -> float:
        """Mean over runs and cases, in sigma of the clean image."""
        return float(self.reading("perceptibility").mean())

    @property
    def mean_drop(self) -> float:
        """Mean of the organs' relative drops against the labels as they are."""
        return float(np.nanmean([entry["drop"] for entry in self.organs.values()]))

    def fell(self, organ: str, against: str = "drop") -> bool:
        """Whether the organ's Dice fell by :data:`SUCCESS`; ``against`` is ``"drop"`` or ``"warped_drop"``."""
        return bool(self.organs[organ][against] >= SUCCESS - 1e-9)


def drop(clean: float, attacked: float) -> float:
    """(clean - attacked) / clean of mean Dices; NaN where the clean one is 0."""
    return (clean - attacked) / clean if clean > 0 else float("nan")


def pooled(rows: pd.DataFrame, per: str = "patient") -> pd.DataFrame:
    """Columns ``run, class``, ``per``, and every Dice of :data:`DICES`: 2 common / masked voxels, summed over the cases of a unit.

    A unit that shows no voxel of an organ is left out for that organ: its Dice would be 1 or 0 whatever the attack does to the rest.
    """
    voxels = rows[rows["metric"].str.endswith("_voxels")]
    table = voxels.pivot_table(index=["run", "class", per], columns="metric", values="value", aggfunc="sum", sort=False)
    table = table[table["motion_masked_voxels"] > 0]
    found = {name: (2 * table[f"{p}common_voxels"] / table[f"{p}masked_voxels"]).fillna(1.0) for name, p in DICES.items()}
    return pd.DataFrame(found).reset_index()


def lines(rows: pd.DataFrame, per: str = "patient") -> list[Line]:
    """The lines of the table: the generators, the field attacks as they are (factor 1), those of equal perceptibility."""
    about = rows[["kind", "xi", "parts"]].drop_duplicates()
    cells = [
        (str(k), float(xi), str(parts), rows[(rows["kind"] == k) & (rows["xi"] == xi) & (rows["parts"] == parts)])
        for k, xi, parts in about.itertuples(index=False)
    ]
    tried = {(xi, parts): part for kind, xi, parts, part in cells if kind == FIELDS}
    made = [Line(_name(k, xi, parts), k, xi, parts, part, per) for k, xi, parts, part in cells if k == GENERATOR]
    plain = [Line(_name(FIELDS, *key), FIELDS, *key, part[part["run"] == 1], per) for key, part in tried.items()]
    known = {(line.xi, line.parts): line for line in made}
    equal = [match(line, tried[key]) for key, line in known.items() if key in tried]
    return [*made, *plain, *equal]


def match(line: Line, fields: pd.DataFrame) -> Line:
    """Of the field attacks run with several factors of the penalty, the one nearest to ``line`` in perceptibility that is not above
    it by more than :data:`TOLERANCE`; where all are above, the least perceptible."""
    candidates = []
    for factor, part in fields.groupby("run"):
        name = f"{_name(EQUAL, line.xi, line.parts)} (penalty × {factor:g})"
        candidates.append(Line(name, EQUAL, line.xi, line.parts, part, line.per))
    candidates.sort(key=lambda candidate: candidate.perceptibility)
    allowed = [c for c in candidates if c.perceptibility <= (1 + TOLERANCE) * line.perceptibility]
    return allowed[-1] if allowed else candidates[0]


def of_kind(found: Sequence[Line], kind: str, parts: str | None = None) -> list[Line]:
    """The lines of one kind (and of these parts), by xi."""
    chosen = [line for line in found if line.kind == kind and parts in (None, line.parts)]
    return sorted(chosen, key=lambda line: line.xi)


def partners(found: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Every generator with the field attack of equal perceptibility."""
    equal: Mapping[tuple[float, str], Line] = {(line.xi, line.parts): line for line in of_kind(found, EQUAL)}
    return [(line, equal[line.xi, line.parts]) for line in of_kind(found, GENERATOR) if (line.xi, line.parts) in equal]


def _name(kind: str, xi: float, parts: str) -> str:
    alone = {"both": "", "deformation": ", deformation only", "intensity": ", intensity only"}[parts]
    return f"{kind}, ξ = {xi:g}{alone}"
