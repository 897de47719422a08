"""Figure 2 of paper 002: single images, what was done to them, and what the network says then; and Dice over xi as curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Subset

from monai_advdef.handlers import AttackHandler
from monai_advdef.handlers.cases import Cases
from monai_advdef.papers.attacked import attacked_batch, deployed, pick, picture
from monai_advdef.papers.synthesis.drawings import Panel, curves, panels
from monai_advdef.papers.synthesis.scores import FIELDS, GENERATOR, Line, of_kind
from monai_advdef.papers.synthesis.table1 import SynthesisTable
from monai_advdef.report import words
from monai_advdef.study import Cell, prepared, test_set
from monai_advdef.synthesis import FieldStore, moments


class SynthesisFigures(SynthesisTable):
    """The images behind a :class:`SynthesisTable`, and its curves.

    ``<name>_curves.png``: Dice of every organ over xi. ``<name>_<case>_generator.png`` and ``..._field_attack.png``, with a line for
    every row: the clean image with label and prediction, the attacked one, the displacement as a warped grid, the intensity field.
    Of a volume the axial slice with most organ.

    Args:
        cases: names of cases, or ``worst``, ``median``, ``best`` by the mean drop of the organs' Dice under the middle generator.
        options: of :class:`SynthesisTable`. Of each generator the last one kept is drawn.

    Raises:
        DataError: no such case.

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019, figure 2.
    """

    def __init__(self, *, cases: Sequence[str] = ("median",), **options: Any) -> None:
        super().__init__(**options)
        self.wanted = [str(case) for case in cases]

    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page; the figures are written beside it."""
        found = self.lines(rows)
        made = of_kind(found, GENERATOR)
        reference, organs = made[len(made) // 2], [str(name) for name in rows["class"].unique() if name != "image"]
        sizes = words.listing([f"{xi:g}" for xi in dict.fromkeys(xi for xi, _ in self.rows)])
        curves(found, output / f"{self.name}_curves.png")
        parts = [f"![Dice over ξ]({self.name}_curves.png)\n"]
        for case, said in pick(_changes(reference), self.wanted):
            for kind in (GENERATOR, FIELDS):
                file = f"{self.name}_{re.sub(r'[^A-Za-z0-9]+', '_', case)}_{kind.replace(' ', '_')}.png"
                drawn = [self._panel(kind, xi, parts, case) for xi, parts in self.rows]
                title = f"{case}, {kind} at ξ = {sizes}" + (f" ({said} under the {reference.name})" if said else "")
                panels(drawn, output / file, title, organs, self.units.intensity, _range(drawn))
                parts.append(f"![{title}]({file})\n")
        return parts

    def _panel(self, kind: str, xi: float, parts: str, case: str) -> Panel:
        """One attack on one case."""
        ckpt_dir = self.settings["ckpt_dir"]
        cells = self.generator_cells(ckpt_dir, xi, parts) if kind == GENERATOR else self.field_cells(xi, parts)
        cell = cells[-1][1] if kind == GENERATOR else next(c for about, c in cells if about["run"] == 1)
        catcher = _Catcher(f"ξ = {xi:g}" + ("" if parts == "both" else f"\n{parts} only"))
        made = prepared(self.bundle, Cell(cell.overlays, {**cell.overrides, **_alone(catcher)}), self._of(case))
        catcher.attack = made.parser.get_parsed_content("attack_def")
        made.evaluator.run()
        made.finalize()
        assert catcher.panel is not None
        return catcher.panel

    def _of(self, case: str) -> dict[str, Any]:
        """Settings of an evaluation of one case."""
        dataset = self.cases.get("validate::dataset") or test_set(self.bundle, self.settings)
        names = Cases(dataset, "image")
        at = next(i for i in range(len(dataset)) if names.name(dataset[i]) == case)
        return {**self.settings, "validate::dataset": Subset(dataset, [at])}


class _Catcher:
    """In place of an evaluator's iteration: keeps the panel of the one case it meets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.panel: Panel | None = None
        self.attack: AttackHandler | None = None

    def __call__(self, engine: Any, batch: Any) -> dict[str, Any]:
        assert self.attack is not None
        cases, victim = attacked_batch(engine, self.attack), deployed(engine, self.attack)
        with engine.mode(engine.network), torch.no_grad():
            predictions = [victim.predict(victim(x))[0] for x in (cases.clean, cases.adversarial)]
        fields = FieldStore(self.attack.attack.fields_dir).load(cases.adversarial[0])  # type: ignore[attr-defined]
        added = (moments(cases.clean.cpu())[1].amax(1, keepdim=True) * fields.intensity)[0]
        label = cases.label[0]
        at = int((label[0] != 0).sum((0, 1)).argmax()) if label.ndim == 4 else None
        images = [cases.clean[0], cases.adversarial[0], label, *reversed(predictions), added]
        clean, attacked, classes, prediction, before, intensity = (_plane(x[:1], at) for x in images)
        columns, rows = (_plane(fields.displacement[0, i : i + 1], at) for i in (0, 1))
        self.panel = Panel(self.name, clean, attacked, classes, prediction, before, np.stack([rows, columns]), intensity)
        return {}


def _alone(catcher: _Catcher) -> dict[str, Any]:
    """Overrides that leave an evaluator nothing but the weights, the attack and the catcher."""
    weights = {"_target_": "CheckpointLoader", "load_path": "$@ckpt_dir + '/model.pt'", "load_dict": {"model": "@net"}}
    return {
        "validate::evaluator::iteration_update": catcher,
        "validate::evaluator::key_val_metric": None,
        "validate::handlers": [{**weights, "map_location": "@device"}, "@attack_def"],
    }


def _changes(line: Line) -> dict[str, float]:
    """By case, the mean change of the organs' Dice."""
    dices = Line(line.name, line.kind, line.xi, line.parts, line.rows, "case").dices
    means = (dices["dice"] - dices["clean"]).groupby(dices["case"]).mean()
    return {str(case): float(value) for case, value in means.items()}


def _plane(x: Tensor, at: int | None) -> np.ndarray:
    """(H, W) in the order of a picture, of a channel (1, W, H[, D])."""
    return picture(x.float() if at is None else x[..., at].float())


def _range(drawn: Sequence[Panel]) -> tuple[float, float]:
    """What is black and white: the clean image's range, the 1st to the 99.5th percentile."""
    low, high = np.percentile(drawn[0].clean, [1, 99.5])
    return float(low), float(max(high, low + 1))
