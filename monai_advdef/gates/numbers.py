"""The scores, case by case, that a gate is about: the lowest that any attacker who knows the defence has reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.comparison.measures import DROP, OVERLAPS, OWN, SAME, STABILITY, recorded, same_unit
from monai_advdef.gates.expression import Gate
from monai_advdef.report import words
from monai_advdef.report.scope import Scope, is_noise, read_scope
from monai_advdef.report.verdicts import Verdict, verdicts

INDEX = ["case", "patient"]


class Missing(ValueError):
    """The records do not hold the number; the message says what they hold in its place."""


@dataclass(frozen=True)
class Scores:
    """What a gate reads.

    Attributes:
        values: one row per case: ``case``, ``patient``, ``value``.
        attack: what was read, in words.
        undefined: how many cases have no value, on the clean image neither.
        fingerprints: of the evaluations that they come from.
        scope: the rows around them, at the size of the gate.
        own: whether the reference is the model's own clean prediction.
    """

    values: pd.DataFrame
    attack: str
    undefined: int
    fingerprints: frozenset[str]
    scope: Scope
    own: bool


class Numbers:
    """Reads gates from the records of one output folder.

    Args:
        folder: holds ``records/``.
        model, defense: which, where the records hold several.

    Raises:
        RecordError: there are no records, or a file is damaged.
        ValueError: they hold several models, and none is chosen.
    """

    def __init__(self, folder: str | Path, *, model: str | None = None, defense: str | None = None) -> None:
        self.scope = read_scope(Path(folder) / "records", model=model)
        self.defense = defense
        self._doubts: dict[tuple[float | None, str, str], list[Verdict]] = {}

    def doubts(self, scope: Scope) -> list[Verdict]:
        """What the records themselves hold against the numbers at the size of a scope."""
        key = (scope.eps, scope.unit, scope.norm)
        if key not in self._doubts:
            self._doubts[key] = [box for box in verdicts(scope) if box.status == "suspect"]
        return self._doubts[key]

    def read(self, gate: Gate) -> Scores:
        """The scores of one gate.

        Raises:
            Missing: they are not in the records, or not all of them.
        """
        scope = self.scope if gate.eps is None else self._at(gate)
        own = self._own(gate)
        every = self._of(gate, scope.every)
        clean = stats.clean(every)
        attacked = clean.iloc[:0] if gate.eps is None else self._attacked(gate, scope, every)
        rows = clean if gate.eps is None else attacked
        if not len(rows):
            raise Missing(f"there is no evaluation without an attack; run one, or leave the gate {gate.number} away")
        undefined = _undefined(rows, clean, gate)
        used = frozenset(pd.concat([rows, clean])["fingerprint"])
        if gate.eps is None:
            return Scores(self._restored(gate, stats.per_case(clean)).dropna(), "no attack", undefined, used, scope, own)
        values = self._restored(gate, _lowest(attacked))
        if gate.measure == DROP:
            values = _drop(clean, values)
        return Scores(values.dropna(), _named(attacked), undefined, used, scope, own)

    def _restored(self, gate: Gate, cases: pd.DataFrame) -> pd.DataFrame:
        known = cases[[*INDEX, "value"]]
        return known if gate.measure == DROP else known.assign(value=gate.of.restored(known["value"]))

    def _at(self, gate: Gate) -> Scope:
        """The scope at the size of the gate."""
        rows = self.scope.every
        rows = rows[(rows["attack"] != "none") & np.isfinite(rows["eps"])]
        sizes = rows[["eps", "unit", "norm"]].drop_duplicates().sort_values(["unit", "eps"])
        known = words.listing([words.size(eps, unit) for eps, unit, _ in sizes.itertuples(index=False)][:8])
        mine = sizes[sizes["unit"].map(lambda unit: not gate.unit or same_unit(gate.unit, _bare(unit))).astype(bool)]
        mine = mine[np.isclose(mine["eps"].to_numpy(dtype=float), gate.eps, rtol=SAME, atol=0)]  # type: ignore[arg-type]
        if not len(mine):
            raise Missing(
                f"nothing was attacked with {gate.number.partition('@')[2].partition('/')[0]}; recorded: {known or 'no attack'}"
            )
        if mine[["unit", "norm"]].drop_duplicates().shape[0] > 1:
            told = words.listing([words.size(eps, unit) for eps, unit, _ in mine.itertuples(index=False)])
            raise Missing(f"its size may mean {told}; name the unit in the gate, or audit each into a folder of its own")
        eps, unit, norm = mine.iloc[0]
        return replace(self.scope, eps=float(eps), unit=str(unit), norm=str(norm))

    def _own(self, gate: Gate) -> bool:
        """Whether there were no labels; then Dice is called stability."""
        rows = self.scope.every
        own = "reference" in rows and bool((rows["reference"] == OWN).any())
        if own and gate.measure in OVERLAPS:
            raise Missing(f"there were no labels, so there is no {gate.measure}: the reference is the model's own; use stability")
        if not own and gate.measure == STABILITY:
            raise Missing("stability is for audits without labels, and these records were scored against labels; use dice")
        return own

    def _of(self, gate: Gate, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the gate's measure, class and defence, with values of which the lowest is the worst."""
        measured, metric = rows, recorded(gate.measure)
        rows = measured[measured["metric"] == metric]
        if not len(rows):
            known = sorted(set(measured["metric"]))
            raise Missing(f"{metric} was not measured; recorded: {', '.join(known)}")
        rows = self._deployed(rows)
        if gate.structure:
            known = sorted(set(rows["class"]))
            rows = rows[rows["class"].str.casefold() == gate.structure.casefold()]
            if not len(rows):
                raise Missing(f"there is no class {gate.structure!r}; recorded: {', '.join(known[:12])}")
        return rows if gate.measure == DROP else rows.assign(value=gate.of.oriented(rows["value"]))

    def _deployed(self, rows: pd.DataFrame) -> pd.DataFrame:
        names = sorted(set(rows["defense"]))
        if self.defense is None and len(names) > 1:
            told = ", ".join(words.defence(name) for name in names)
            raise Missing(f"the records hold several deployments ({told}); audit each into a folder of its own")
        if self.defense is not None and self.defense not in names:
            raise Missing(f"there is no defence {self.defense!r}; recorded: {', '.join(names)}")
        return rows if self.defense is None else rows[rows["defense"] == self.defense]

    def _attacked(self, gate: Gate, scope: Scope, every: pd.DataFrame) -> pd.DataFrame:
        """The attacked rows that count, on all cases."""
        sized = _sized(every, scope)
        if not gate.attack:
            rows = sized[~is_noise(sized)]
            if not len(rows):
                raise Missing("only random noise was tried with this size; run a suite or an attack")
            return _by_who_knows(rows)
        rows = sized[_called(sized, gate.attack)]
        if len(rows):
            return rows if is_noise(rows).all() else _by_who_knows(rows[~is_noise(rows)])
        members = scope.members
        members = members[members["metric"] == recorded(gate.measure)] if len(members) else members
        runs = _sized(self._of(gate, members), scope) if len(members) else members
        rows = runs[_called(runs, gate.attack)] if len(runs) else runs
        if not len(rows):
            known = pd.concat([sized, runs])[["attack", "steps", "restarts"]].drop_duplicates().to_dict("records")
            raise Missing(
                f"no suite or attack is called {gate.attack!r}; recorded: {', '.join(sorted({words.attack(r) for r in known}))}"
            )
        if (left := rows.loc[rows["value"].isna(), "case"].nunique()) > 0:
            raise Missing(
                f"{gate.attack} was not run on {words.count(left, 'image')}, which other members had brought to 0 before; "
                "a gate on the suite reads them all"
            )
        return _by_who_knows(rows)


def _bare(unit: str) -> str:
    return unit.partition(words.BY_CHANNEL)[0].partition(words.IN_L2)[0]


def _sized(rows: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    same = (rows["eps"] == scope.eps) & (rows["unit"] == scope.unit) & (rows["norm"] == scope.norm)
    return rows[same & (rows["attack"] != "none")]


def _called(rows: pd.DataFrame, name: str) -> pd.Series:
    """Which rows are of the attack or suite ``name``, in any of the ways in which it is called."""
    wanted = name.casefold()

    def fits(row: pd.Series) -> bool:
        bare = row.to_dict() | {"attack": stats.way(row["attack"])[0]}
        called = [row["attack"], bare["attack"], words.attack(row), words.attack(bare), row["attack"].removeprefix(words.WORST)]
        return wanted in (text.casefold() for text in called)

    found = {key: fits(group.iloc[0]) for key, group in rows.groupby(["attack", "steps", "restarts"])}
    return pd.Series([found[key] for key in zip(rows["attack"], rows["steps"], rows["restarts"])], index=rows.index, dtype=bool)


def _by_who_knows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, where somebody who knows the defence is among the attackers."""
    if not len(stats.attacker(rows, True)):
        raise Missing(f"nobody who knows the defence {rows['defense'].iloc[0]} has attacked it, so it is not assessed")
    return rows


def _lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """Per case the lowest over attacks, of the attacker with the lower mean; noise is no attacker."""
    try:
        return stats.worst_case(rows) if is_noise(rows).all() else stats.headline_cases(rows)
    except ValueError as error:
        raise Missing(str(error)) from error


def _undefined(rows: pd.DataFrame, clean: pd.DataFrame, gate: Gate) -> int:
    """How many cases have no value in a class, with the clean image neither.

    Raises:
        Missing: cases that lost their value under the attack; without them the others would flatter.
    """
    empty = rows.loc[rows["value"].isna(), ["case", "class"]].drop_duplicates()
    if not len(empty):
        return 0
    if gate.eps is None:
        return int(empty["case"].nunique())
    known = clean.dropna(subset="value")[["case", "class"]].drop_duplicates()
    lost = empty.merge(known, on=["case", "class"]) if len(clean) else empty
    if len(lost):
        n, first = lost["case"].nunique(), lost.iloc[0]
        raise Missing(
            f"{gate.measure} is not defined under the attack in {words.count(n, 'image')} (first {first['case']}, "
            f"{first['class']}), and the mean of the others would flatter"
        )
    return int(empty["case"].nunique())


def _drop(clean: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Clean minus attacked on every case."""
    if not len(clean):
        raise Missing("there is no evaluation without an attack to take the drop from; run one")
    before = stats.per_case(clean).set_index(INDEX)["value"]
    after = values.set_index(INDEX)["value"]
    if set(before.index) != set(after.index):
        odd = sorted({case for case, _ in before.index.symmetric_difference(after.index)})
        raise Missing(f"clean and attacked images are not the same: only one of them has {', '.join(odd[:5])}; run both on all")
    return (before - after).rename("value").reset_index()


def _named(rows: pd.DataFrame) -> str:
    names: Sequence[str] = sorted(
        {words.attack(row) for row in rows.drop_duplicates(["attack", "steps", "restarts"]).to_dict("records")}
    )
    return words.listing([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
