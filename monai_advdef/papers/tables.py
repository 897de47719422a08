"""A table of a paper: every cell is an evaluation of the bundle, recorded like any other, and crafted images are shared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_advdef.defenses.quantiser import way_of
from monai_advdef.errors import nearest
from monai_advdef.papers.page import PaperPage
from monai_advdef.progress import Steps
from monai_advdef.study import Cell, carry_out, quiet, recorded
from monai_advdef.switches import as_written

CLEAN = "clean"
BANDS = {"band_std.json": "training/band_statistics"}


class Table(PaperPage):
    """Attacks as rows, defences as columns. Subclasses say how the rows of the records become text.

    Args:
        dataset: the cases to evaluate, read once for all cells; ``None``: each cell reads the bundle's test section.
        attacks: ``{"name": ..., "overlay": "attacks/asma", "options": {"steps": 60}, "adaptive": [...], "behind": [...], "also":
            [...]}`` each; ``options`` are those of the AttackHandler; ``adaptive`` lists the defences also attacked by one who knows
            them (default: all), and ``behind`` the ways of that attacker through each of them, ``{"smoothness": 0.7, "begin":
            "oblivious"}`` (default: the defence's own surrogate); ``also`` holds further adaptive attackers for some defences, of
            the same form, their ``name`` telling them apart.
        defenses: ``{"name": ..., "overlay": "defenses/jpeg", "options": {"quality": 50}}`` each, in the order of the columns; the
            option ``band_std: fitted`` stands for the statistics of the training images. Without an overlay: no defence. With
            ``"rounds": False`` it rounds nothing, so that of ``behind`` only where it begins matters.
        columns: names of the defences that are shown, beside the first; ``None``: all.
        networks: folders with weights of networks trained alike (other seeds), for tables over several; default: ``ckpt_dir``.
            Their records lie in ``output_dir/<name of the folder>``.
        overlays: further overlays of every cell, such as ``"configs/diagnosis"``.
        trainings: what these need in a network's folder, by the overlay that makes it: ``{"cup.pt": "configs/train_cup"}``.
        page: ``name, title, bundle_root, settings`` and ``note`` of :class:`~monai_advdef.papers.page.PaperPage`.

    A network without weights is trained first, with the bundle's own configuration. Run again, a table goes on where it stopped.

    Raises:
        ValueError: two columns or two attacks of one name; ``columns`` that the table does not have.
    """

    @as_written
    def __init__(
        self,
        *,
        dataset: Any = None,
        attacks: Sequence[Mapping[str, Any]] = (),
        defenses: Sequence[Mapping[str, Any]] = (),
        columns: Sequence[str] | None = None,
        networks: Sequence[str | os.PathLike[str]] | None = None,
        overlays: Sequence[str] = (),
        trainings: Mapping[str, str] | None = None,
        **page: Any,
    ) -> None:
        super().__init__(**page)
        self.cases = {} if dataset is None else {"validate::dataset": dataset}
        self.attacks, self.defenses, self.overlays = list(attacks), list(defenses), tuple(overlays)
        self.trainings = {**BANDS, **(trainings or {})}
        self.networks = [Path(n) for n in networks or [self.settings["ckpt_dir"]]]
        names = [str(d["name"]) for d in self.defenses]
        for name in columns or ():
            if name not in names:
                raise ValueError(f"columns has {name!r}, which no defence of the table is called; {nearest(str(name), names)}")
        if columns:
            self.defenses = [d for d in self.defenses if d is self.defenses[0] or d["name"] in columns]
        self.columns = [str(d["name"]) for d in self.defenses]
        for kind, names in (("defenses", self.columns), ("attacks", [a["name"] for a in self.attacks])):
            if len(set(names)) < len(names):
                raise ValueError(f"{kind} of the table share a name: {names}; give each its own")

    def run(self) -> Path:
        """Evaluate what is missing and write the table.

        Returns:
            The Markdown file.
        """
        quiet()
        for network in self.networks:
            self.prepare(network)
        plan = [(network, *cell) for network in self.networks for cell in self.cells()]
        rows = []
        with Steps(f"{self.name}: {len(plan)} evaluations", len(plan)) as steps:
            for network, attack, defense, attacker in plan:
                rows.append(self._evaluate(network, attack, defense, attacker))
                steps.done(", ".join(filter(None, (network.name, attack.get("name", CLEAN), defense["name"], attacker))))
        return self.write(self.page(pd.concat(rows, ignore_index=True)))

    def page(self, rows: pd.DataFrame) -> str:
        """Markdown from the records of all cells, with the columns ``column, attack_row, attacker, network`` added."""
        raise TypeError(f"{type(self).__name__} defines no page(rows); a table must")

    def prepare(self, network: Path) -> None:
        """Train the network, fit the band statistics and train what else the table needs, where their files are missing."""
        settings = self._of(network)
        if not (network / "model.pt").exists():
            self.train(settings, f"no weights in {network}")
        for file, overlay in self.trainings.items():
            if not (network / file).exists():
                print(f"{self.name}: no {network / file}, running {overlay}")
                carry_out(self.bundle, (overlay,), settings)

    def cells(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
        """Attack, defence and attacker of every cell, for one network."""
        plan: list[tuple[Mapping[str, Any], Mapping[str, Any], str]] = [({}, d, "") for d in self.defenses]
        for attack in self.attacks:
            for defense in self.defenses:
                plan.append((attack, defense, "oblivious"))
                if "overlay" not in defense or defense["name"] in attack.get("adaptive", self.columns):
                    plan += [({**attack, "options": options}, defense, told) for told, options in _ways(attack, defense)]
                further = [a for a in attack.get("also", ()) if defense["name"] in a["adaptive"]]
                plan += [({**a, "name": attack["name"]}, defense, f"adaptive, {a['name']}") for a in further]
        return plan

    def _of(self, network: Path) -> dict[str, Any]:
        output = Path(self.settings["output_dir"])
        output = output / network.name if len(self.networks) > 1 else output
        return {**self.settings, "ckpt_dir": str(network), "output_dir": str(output)}

    def _evaluate(self, network: Path, attack: Mapping[str, Any], defense: Mapping[str, Any], attacker: str) -> pd.DataFrame:
        overlays = (*self.overlays, *(part["overlay"] for part in (attack, defense) if "overlay" in part))
        overrides = {f"attack_def::{k}": v for k, v in attack.get("options", {}).items()}
        for name, value in defense.get("options", {}).items():
            fitted = name == "band_std" and value == "fitted"
            overrides[f"defense_def::{name}"] = str(network / "band_std.json") if fitted else value
        if attack:
            overrides["adaptive"] = attacker != "oblivious"
        overrides["record_def::undefended"] = attacker not in ("", "oblivious")
        shared = {**self._of(network), **self.cases, "record_def::card": False}
        rows = recorded(self.bundle, Cell(overlays, overrides), shared)
        return rows.assign(
            column=str(defense["name"]), attack_row=attack.get("name", CLEAN), attacker=attacker, network=network.name
        )


def _ways(attack: Mapping[str, Any], defense: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What an attacker who knows the defence is called, and the options of the attack, for every way through it."""
    given: Sequence[Mapping[str, Any]] = attack.get("behind") or ({},)
    ways: list[dict[str, Any]] = [dict(way) for way in given]
    if not defense.get("rounds", True):
        ways = [{k: v for k, v in way.items() if k == "begin"} for way in ways]
    told: dict[str, dict[str, Any]] = {}
    if "overlay" not in defense:
        ways = [{}]
    for way in ways:
        words = way_of(way.get("surrogate"), way.get("smoothness"), way.get("begin", "own"))
        told.setdefault(", ".join(filter(None, ["adaptive", words])), {**attack.get("options", {}), **way})
    return list(told.items())
