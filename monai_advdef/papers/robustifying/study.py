"""Paper "Robustifying": networks for volumes, attacked over eps and defended by training, every subject tested once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_advdef.papers.network_study import NetworkStudy
from monai_advdef.papers.robustifying import tables as volume_tables
from monai_advdef.report import words


class Robustness(NetworkStudy):
    """A study over the folds of a cross-validation whose page speaks of labels, regions, millimetres and millilitres.

    Args:
        curves: names of the attacks whose Dice is told over eps.
        cells: ``[name, eps]`` of the attacks whose Dice is told label by label, with tests; an attack that was not run is left out.
        eps: at which defences are compared.
        compared: ``[a, b]`` of networks that are tested against each other.
        options: of :class:`~monai_advdef.papers.network_study.NetworkStudy`.

    Raises:
        ValueError: as the base class; ``compared`` names a network that is not in the list.

    Source: Liu, Zhang, Jog, Loh, McMillan, "Robustifying Deep Networks for Medical Image Segmentation", 2021; only its abstract
    was at hand, so the protocol is reconstructed from it.
    """

    def __init__(
        self,
        *,
        curves: Sequence[str] = (),
        cells: Sequence[Sequence[Any]] = (),
        eps: float = 0.1,
        compared: Sequence[Sequence[str]] = (),
        repeat: str = "fold",
        **options: Any,
    ) -> None:
        super().__init__(repeat=repeat, **options)
        self.curves, self.cells_shown, self.eps = list(curves), [(str(a), float(e)) for a, e in cells], float(eps)
        self.compared = [(str(a), str(b)) for a, b in compared]
        for name in {name for pair in self.compared for name in pair} - set(self.networks):
            raise ValueError(f"compared names {name!r}, which is not among the networks: {', '.join(self.networks)}")

    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page."""
        subjects, folds = rows["patient"].nunique(), rows["training"].nunique()
        parts = [f"## {self.title}\n", self.note, f"n = {words.count(subjects, 'subject')}, each tested once, in {folds} folds.\n"]
        parts.append(volume_tables.clean_table(rows, list(self.networks)))
        for name in self.networks:
            part = rows[rows["network"] == name]
            run = {(str(a), float(e)) for a, e in part[["attack_row", "eps"]].drop_duplicates().itertuples(index=False)}
            attacks = {a for a, _ in run}
            if curves := [a for a in self.curves if a in attacks]:
                parts.append(volume_tables.drop_table(rows, name, curves))
            if cells := [cell for cell in self.cells_shown if cell in run]:
                parts += [volume_tables.label_table(rows, name, cells), volume_tables.physical_table(rows, name, cells)]
        if self.compared:
            attacks_run = [str(a["name"]) for a in self.attacks]
            parts.append(volume_tables.defense_table(rows, list(self.networks), attacks_run, self.eps))
            parts.append(volume_tables.defense_pairs(rows, self.compared, attacks_run, self.eps))
            parts.append(volume_tables.masking_table(rows, list(self.networks), attacks_run, self.eps))
        return parts
