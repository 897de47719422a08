"""One side of a comparison: the records of one model, and the conditions (attack and size) under which it was scored."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.errors import DataError
from monai_advdef.records import RecordError, read_provenance, read_verdicts
from monai_advdef.report import words
from monai_advdef.report.scope import is_noise, read_scope


class Condition(NamedTuple):
    """Under what a model was scored; of a clean evaluation only ``attack`` and ``defense`` say something. ``defense`` is empty where
    the records hold one deployment only."""

    attack: str
    eps: float
    unit: str
    norm: str
    steps: int
    restarts: int
    defense: str

    @property
    def told(self) -> str:
        """In words: ``clean``, ``standard (worst case), 5 HU``."""
        behind = f", {words.defence(self.defense)}" if self.defense else ""
        if self.attack == "none":
            return f"clean{behind}"
        return f"{words.attack(self._asdict())}, {words.size(self.eps, self.unit)}{behind}"

    @property
    def order(self) -> tuple[Any, ...]:
        """Worst cases of suites first, then single attacks, noise and the clean score, each by size."""
        kind = (
            3 if self.attack == "none" else 2 if self.attack.startswith("noise") else 0 if self.attack.startswith(words.WORST) else 1
        )
        return (kind, self.attack, self.eps, self.unit, self.norm, self.steps, self.restarts, self.defense)


@dataclass(frozen=True)
class Side:
    """What was recorded of one model.

    Attributes:
        name: told apart from the other sides.
        folder: with ``records/``.
        rows: without the single runs of suites, units and attacks told apart.
        facts: provenance by fingerprint.
        left_out: evaluations on fewer cases, by name.
    """

    name: str
    folder: Path
    rows: pd.DataFrame
    facts: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...] = ()

    @property
    def cases(self) -> set[str]:
        """Names of its cases."""
        return set(self.rows["case"])

    @property
    def reference(self) -> str:
        """What the scores are about: ``labels`` or ``own prediction``."""
        return str(self.rows["reference"].iloc[0]) or "labels" if "reference" in self.rows else "labels"

    def told(self, column: str) -> list[str]:
        """What a column of the records says, in order."""
        return sorted(set(self.rows[column]) - {""}) if column in self.rows else []

    def conditions(self, metric: str) -> dict[Condition, pd.DataFrame]:
        """The rows of a metric under every condition; a defence that nobody who knows it has attacked has none but the clean one."""
        rows = self.rows[self.rows["metric"] == metric]
        several = rows["defense"].nunique() > 1
        worst, none = rows["attack"].str.startswith(words.WORST), rows["attack"] == "none"
        plain = rows.assign(
            **{name: rows[name].where(~(none | worst), 0) for name in ("steps", "restarts")},
            **{name: rows[name].where(~none, "") for name in ("unit", "norm")},
            behind=rows["defense"] if several else "",
        )
        keys = ["attack", "eps", "unit", "norm", "steps", "restarts", "behind"]
        found = {}
        for key, group in plain.groupby(keys, sort=True):
            condition = Condition(str(key[0]), float(key[1]), str(key[2]), str(key[3]), int(key[4]), int(key[5]), str(key[6]))
            attacked = condition.attack != "none" and not is_noise(group).all()
            if not attacked or len(stats.attacker(group, True)):
                found[condition] = rows.loc[group.index]
        return found

    def doubts(self, fingerprints: set[str]) -> list[str]:
        """What checks hold against these evaluations."""
        checks = read_verdicts(self.folder)
        found = [v for name in sorted(fingerprints & set(checks)) for v in checks[name]["verdicts"] if v["verdict"] != "ok"]
        return [f"check {v['name']} of {self.name}: {v['verdict']}, {v['evidence']}" for v in found]

    def suite_digest(self, rows: pd.DataFrame) -> str:
        """The digest of the suite that rows are of; empty where the provenance does not tell."""
        return str(self._attack(rows, "attack").get("digest", ""))

    def value_range(self, rows: pd.DataFrame) -> str:
        """The valid intensities of the attack that rows are of, as they were written; empty where the provenance does not tell."""
        found = self._attack(rows, "threat").get("value_range", "")
        return str(np.ravel(found).tolist()) if isinstance(found, (list, tuple)) else str(found)

    def _attack(self, rows: pd.DataFrame, part: str) -> Mapping[str, Any]:
        config = self.facts.get(str(rows["fingerprint"].iloc[0]), {}).get("config") or {}
        found = (config.get("attack") or {}).get(part) or {}
        return found if isinstance(found, Mapping) else {}


def read_side(path: str | Path, name: str = "", *, model: str | None = None) -> Side:
    """Read one side: an output folder (with ``records/``) or a folder of records.

    Raises:
        DataError: it is neither, or holds several models and none is chosen.
        RecordError: a file is damaged.
    """
    folder = Path(path)
    if folder.is_file():
        raise DataError(f"{folder} is a file; give the output folder of an audit or an evaluation, which holds records/")
    records = folder / "records" if (folder / "records").is_dir() else folder
    if not records.is_dir() or not any(records.glob("*.parquet")):
        raise DataError(
            f"there are no records in {folder}; give the output folder of an audit or an evaluation, which holds records/"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="unfinished cells")
            scope = read_scope(records, model=model)
    except RecordError:
        raise
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    left = (*scope.left_out, *(f"cell {name}, not finished" for name in scope.unfinished), *scope.others)
    outer = records.parent if records.name == "records" else folder
    return Side(name or outer.resolve().name, outer, scope.every, read_provenance(records), left)


def lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """The scores per case (``case, patient, value``) of one condition: of the attacker, who knows the defence or does not, with the
    lower mean. The lowest value must be the worst."""
    if (rows["attack"] == "none").all():
        return stats.per_case(stats.clean(rows))
    found = stats.worst_case(rows) if is_noise(rows).all() else stats.headline_cases(rows)
    return found[["case", "patient", "value"]]
