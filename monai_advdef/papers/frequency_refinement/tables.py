"""Tables 1 to 3 of "A Low-Cost Frequency Refinement Defense" (paper 000), with the columns and attackers that the paper lacks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from monai_advdef.papers.frequency_refinement import diagnosis_lines as diagnosis_table
from monai_advdef.papers.tables import CLEAN, Table
from monai_advdef.report import paper_table
from monai_advdef.report.paper_table import Line

PAPER_COLUMNS = ("no defence", "JPEG(85)", "JPEG(50)", "FR(20,10,60)", "FR(30,5,80)")
PAPER: dict[str, dict[int, tuple[str, ...]]] = {
    "skin": {
        1: ("87.1 ± 4.5", "86.5 ± 7.5", "86 ± 8.1", "86.3 ± 7.3", "86.5 ± 7.2"),
        2: ("46.6 ± 9.2", "84.3 ± 8.4", "85.3 ± 8.9", "84.9 ± 8.5", "85.5 ± 8.3"),
    },
    "fundus": {
        1: ("70.5 ± 7.1", "69.2 ± 10.1", "67.3 ± 10", "69.1 ± 9.8", "69.3 ± 9.6"),
        2: ("28.6 ± 16.8", "63.4 ± 11.8", "65.9 ± 11", "67.3 ± 10.9", "68 ± 10.1"),
        3: ("50.6", "54.6", "59.1", "65.5", "68.2"),
    },
}
"""The paper's figures by data set and table, in per cent."""

READINGS = {
    "probability": "classifiers on the crop around the predicted disc",
    "cup_disc_ratio": "vertical cup/disc ratio from the predicted disc",
}
PROTOCOL = """\
Differences from the paper's protocol: its network, its 100 images and its ASMA settings are not public; it states neither the JPEG
encoder nor the chroma subsampling (ours: 4:2:0, as libjpeg and Pillow do by default; 4:4:4 stands beside it), and its attacker knows
of no defence. Its clean baseline for table 3 is a sensitivity of 71. ASMA here takes larger steps than the published τ and β, which
need thousands of steps; adversarial images are rounded to 8 bits before any defence sees them; bands are ranked by training images.
"""


class FrequencyRefinementTable(Table):
    """Table 1 (benign IoU), 2 (IoU under attack) or 3 (sensitivity of the diagnosis, under attack).

    The paper's attacker is the oblivious one. First stands the worst case of every image over all attackers.

    Args:
        number: 1, 2 or 3.
        task: ``"skin"`` or ``"fundus"``: whose figures of the paper stand beside ours; empty: none.
        title: says what else is special, such as other images.
        reference: the column of which the table tests every other one against it, beside the recovery over no defence.
        options: see :class:`Table`.

    Raises:
        ValueError: no such table.

    Source: tables 1, 2 and 3.
    """

    def __init__(self, *, number: int, task: str = "", title: str = "", reference: str = "FR(30,5,80)", **options: Any) -> None:
        if number not in (1, 2, 3):
            raise ValueError(f"number must be 1, 2 or 3, got {number!r}")
        super().__init__(**{"name": f"frequency_refinement_table{number}", **options}, title=title)
        self.number, self.task, self.reference = number, task, reference

    def page(self, rows: pd.DataFrame) -> str:
        """The table in Markdown, of overlap or of the diagnosis, and the protocol."""
        told = self._diagnosis(rows) if self.number == 3 else self._overlap(rows)
        return "\n".join([*told, PROTOCOL])

    def _paper(self) -> list[Line]:
        figures = PAPER.get(self.task, {}).get(self.number)
        return [("the paper", dict(zip(PAPER_COLUMNS, figures)))] if figures else []

    def _overlap(self, rows: pd.DataFrame) -> list[str]:
        iou = rows[rows["metric"] == "iou"]
        clean = iou[iou["attack_row"] == CLEAN]
        benign: Line = ("benign", {c: paper_table.per_cent(clean[clean["column"] == c]) for c in self.columns})
        title = "benign images" if self.number == 1 else "images under attack"
        told = [f"## {self.title or f'Table {self.number}: IoU on {title}'}\n", f"{_about(rows)}\n"]
        if self.number == 1:
            told.append(paper_table.markdown("IoU, %", self.columns, [benign, *self._paper()]))
            told.append(paper_table.paired(clean, [(c, self.columns[0]) for c in self.columns[1:]]))
            return told
        lines: list[Line] = [benign]
        tests: list[str] = []
        for name in (a["name"] for a in self.attacks):
            attacked = rows[rows["attack_row"] == name]
            lines += [(f"{name}: {line}", texts) for line, texts in paper_table.attack_lines(attacked, self.columns, "iou")]
            lines += self._aim(name, attacked)
            tests += self._tests(name, attacked[attacked["metric"] == "iou"])
        told.append(paper_table.markdown("IoU, %", self.columns, [*lines, *self._paper()]))
        told.append(f"{paper_table.NOT_ASSESSED_NOTE}\n")
        return [*told, *tests]

    def _aim(self, name: str, rows: pd.DataFrame) -> list[Line]:
        """What the images made for a defence do without it, how near a targeted attack came to its target, and how far that overlaps
        the truth."""
        lines: list[Line] = []
        for metric, told in (("undefended_iou", "the same images without the defence"), ("target_iou", "IoU to its target")):
            for attacker in paper_table.attackers(rows):
                part = rows[(rows["metric"] == metric) & (rows["attacker"] == attacker)]
                found = {c: paper_table.per_cent(part[part["column"] == c]) for c in self.columns if (part["column"] == c).any()}
                lines += [(f"{name}: {attacker}, {told}", found)] if found else []
        overlap = rows[(rows["metric"] == "target_overlap") & (rows["column"] == self.columns[0])]
        lines += [(f"{name}: overlap of target and truth", {self.columns[0]: paper_table.per_cent(overlap)})] if len(overlap) else []
        return lines

    def _tests(self, name: str, rows: pd.DataFrame) -> list[str]:
        """Defence gain over no defence, and the reference against every other defence, for each attacker."""
        none, others = self.columns[0], [c for c in self.columns[1:] if c != self.reference]
        pairs = [(c, none) for c in self.columns[1:]] + [(self.reference, c) for c in others]
        tried = rows[rows["column"].isin(paper_table.known(rows))]
        sides = [("strongest of all attackers", paper_table.lower(tried, "iou"))] if len(tried) else []
        apart = [(side, rows[rows["attacker"] == side]) for side in ("adaptive", paper_table.OBLIVIOUS)]
        sides += [(side, part) for side, part in apart if part["column"].nunique() > 1]
        return [f"**{name}, {side}**\n\n{paper_table.paired(part, pairs)}" for side, part in sides]

    def _diagnosis(self, rows: pd.DataFrame) -> list[str]:
        told = [f"## {self.title or 'Table 3: the diagnosis'}\n", f"{_about(rows)}\n"]
        attacks = [str(a["name"]) for a in self.attacks]
        for reading, title in READINGS.items():
            found = diagnosis_table.sensitivity_lines(rows, CLEAN, attacks, self.columns, reading)
            head = f"sensitivity, % [95 %] (specificity, %): {title}"
            told.append(paper_table.markdown(head, self.columns, [*found, *(self._paper() if reading == "probability" else [])]))
            areas = diagnosis_table.auc_lines(rows, CLEAN, attacks, self.columns, reading)
            told.append(paper_table.markdown(f"AUC [95 %]: {title}", self.columns, areas))
        shifts = diagnosis_table.shift_lines(rows, attacks, self.columns)
        told.append(paper_table.markdown("shift of the crop in pixels, median (mean)", self.columns, shifts))
        return [*told, f"{paper_table.NOT_ASSESSED_NOTE}\n"]


def _about(rows: pd.DataFrame) -> str:
    networks = rows["network"].nunique()
    cases = rows["case"].nunique()
    if networks == 1:
        return f"n = {cases} test images, one network; mean ± standard deviation over the images."
    return (
        f"n = {cases} test images, {networks} networks (training seeds); per image the mean over the networks, then mean ± standard "
        "deviation over the images; in parentheses the range of the mean over the networks."
    )
