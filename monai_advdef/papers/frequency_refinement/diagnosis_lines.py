"""Lines of a table about a diagnosis: sensitivity, area under the ROC curve and where the crop went, per column of a paper's table.

``rows`` are records with the columns that :mod:`monai_advdef.report.paper_table` adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from monai_advdef.diagnostic_stats import Estimate, auc, wilson_interval
from monai_advdef.report.paper_table import LOWER, NOT_ASSESSED, Line, attackers, known


def sensitivity_lines(rows: pd.DataFrame, clean: str, attacks: Sequence[str], columns: Sequence[str], reading: str) -> list[Line]:
    """Sensitivity with Wilson's interval, and specificity. Under an attack, the strongest attacker stands first."""
    lines: list[Line] = [(clean, {c: _text(_sensitivity(part, reading)) for c, part in _by_column(rows, clean, "", columns)})]
    for attack in attacks:
        sides = attackers(rows[rows["attack_row"] == attack])
        found = {s: {c: _sensitivity(part, reading) for c, part in _by_column(rows, attack, s, columns)} for s in sides}
        if len(sides) > 1:
            lowest = {c: min(((found[s][c]) for s in sides if c in found[s]), key=lambda e: e[0].value) for c in columns}
            tried = known(rows[rows["attack_row"] == attack])
            marked = {c: f"**{_text(e)}**" if c in tried else NOT_ASSESSED for c, e in lowest.items()}
            lines.append((f"{attack}: **{LOWER} of all attackers**", marked))
        lines += [(f"{attack}: {s}", {c: _text(e) for c, e in found[s].items()}) for s in sides]
    return lines


def auc_lines(rows: pd.DataFrame, clean: str, attacks: Sequence[str], columns: Sequence[str], reading: str) -> list[Line]:
    """Area under the ROC curve of the score averaged over networks, with DeLong's interval."""
    lines: list[Line] = [(clean, {c: _area(part, reading) for c, part in _by_column(rows, clean, "", columns)})]
    for attack in attacks:
        for side in attackers(rows[rows["attack_row"] == attack]):
            lines.append((f"{attack}: {side}", {c: _area(part, reading) for c, part in _by_column(rows, attack, side, columns)}))
    return lines


def shift_lines(rows: pd.DataFrame, attacks: Sequence[str], columns: Sequence[str]) -> list[Line]:
    """Median (and mean) distance of the crop from the benign one."""
    lines: list[Line] = []
    shifts = rows[rows["metric"] == "crop_shift_px"]
    for attack in attacks:
        for side in attackers(shifts[shifts["attack_row"] == attack]):
            found = {c: part["value"] for c, part in _by_column(shifts, attack, side, columns)}
            lines.append((f"{attack}: {side}", {c: f"{v.median():.1f} ({v.mean():.1f})" for c, v in found.items()}))
    return lines


def _by_column(rows: pd.DataFrame, attack: str, attacker: str, columns: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    part = rows[(rows["attack_row"] == attack) & (rows["attacker"] == attacker)]
    return [(c, part[part["column"] == c]) for c in columns if (part["column"] == c).any()]


def _sensitivity(rows: pd.DataFrame, reading: str) -> tuple[Estimate, float]:
    """Sensitivity and specificity over images and networks; the interval counts every image once."""
    table = rows[rows["class"] == "glaucoma"].pivot_table(index=["network", "case"], columns="metric", values="value")
    decision = f"positive_{reading}"
    if decision not in table:
        return Estimate(float("nan"), float("nan"), float("nan"), 0), float("nan")
    sick, well = table[table["truth"] == 1][decision], table[table["truth"] == 0][decision]
    networks = table.index.get_level_values("network").nunique()
    n = len(sick) // networks
    return Estimate(float(sick.mean()), *wilson_interval(round(float(sick.sum()) / networks), n), n), float(well.mean())


def _text(found: tuple[Estimate, float]) -> str:
    sensitivity, specificity = found
    interval = f"[{100 * sensitivity.ci_low:.0f}, {100 * sensitivity.ci_high:.0f}]"
    return f"{100 * sensitivity.value:.1f} {interval} ({100 * specificity:.1f})" if sensitivity.n else "–"


def _area(rows: pd.DataFrame, reading: str) -> str:
    table = rows[rows["class"] == "glaucoma"].pivot_table(index="case", columns="metric", values="value")
    if reading not in table:
        return "–"
    area = auc(table[reading], table["truth"])
    return f"{area.value:.2f} [{area.ci_low:.2f}, {area.ci_high:.2f}]"
