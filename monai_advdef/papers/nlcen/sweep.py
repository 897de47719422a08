"""Networks against budgets: DIC and JSC of several architectures over a list of attack strengths."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from monai_advdef.papers.network_study import NetworkStudy
from monai_advdef.papers.nlcen import figures, tables


class Sweep(NetworkStudy):
    """DIC and JSC of networks over a list of attack strengths, under the paper's attack and stronger ones.

    Arguments and errors: those of :class:`~monai_advdef.papers.network_study.NetworkStudy`.

    Source: He et al., "Non-Local Context Encoder", 2019, figures 4, 5, 7 and 8.
    """

    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page; figures are written beside it."""
        names, paper = list(self.networks), str(self.attacks[0]["name"])
        parts = [f"## {self.title}\n", self.note]
        for metric, title in (("dice", "DIC"), ("iou", "JSC")):
            figures.curves(rows, output / f"{self.name}_{title.lower()}.png", names, metric, paper)
            parts.append(tables.curve_table(rows, names, paper, metric, f"{title} under {paper}"))
        if len(self.attacks) > 1:
            parts.append(tables.strength_table(rows, names, paper))
        if self.pairs:
            figures.pairs(rows, output / f"{self.name}_pairs.png", self.pairs, paper)
            parts += [tables.pair_table(rows, self.pairs), tables.surviving(rows, self.pairs, paper)]
        return parts
