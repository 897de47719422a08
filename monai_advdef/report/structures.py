"""Results by size of structure: the score of every structure under attack against its volume, and of thirds by size."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.figures import GREY, INK, PALETTE, rule, scale, svg, text
from monai_advdef.report.scope import Scope
from monai_advdef.report.sections import Section

SIZES = {"structure_ml": "ml", "structure_mm2": "mm²", "structure_px": "pixels"}
"""The readings that tell how large a structure is, by case and class, and their units: the first that is recorded is taken."""
FEWEST = 6
"""Structures from which thirds are made."""


def structures(scope: Scope) -> Section | None:
    """The score of the undefended network (else of the first defence) against the size of what is to be found, clean and under the
    attack of the headline; None where the records tell no size or no attack. A structure that a case lacks has no size and is left
    out; so is one whose score is undefined."""
    table = sized(scope)
    if not len(table):
        return None
    unit = SIZES[str(table["metric"].iloc[0])]
    absent = int((table["size"] <= 0).sum())
    table = table[table["size"] > 0].dropna(subset=["clean", "attacked"])
    if not len(table):
        return None
    rows = []
    for name, part in _thirds(table):
        low, high = part["size"].min(), part["size"].max()
        told = [words.mean(_summary(part, side)) for side in ("clean", "attacked")]
        rows.append([name, _number(low) if low == high else f"{_number(low)}–{_number(high)}", str(len(part)), *told])
    note = (
        f"Each mark is one structure of one case, {words.defence(str(table['defense'].iloc[0]))}: {scope.metric_name} without an "
        f"attack (grey ring) and under the attack of the headline (filled), against its size in {unit}, on a logarithmic scale. "
        "Intervals: 95 %, bootstrap over patients."
    )
    if absent:
        note += f" Left out: {words.count(absent, 'structure')} that the case lacks."
    heads = ["size of structure", unit, "structures", f"{scope.metric_name}, clean", f"{scope.metric_name}, under attack"]
    return Section(f"{scope.heading} against size of structure", heads, rows, note, figure=_figure(scope, table, unit))


def sized(scope: Scope) -> pd.DataFrame:
    """One row per case and class: ``case, patient, class, size, metric`` (of the size), ``defense, clean, attacked``; none where
    sizes or attacks are unknown."""
    metric = next((name for name in SIZES if (scope.every["metric"] == name).any()), "")
    sizes = scope.every[scope.every["metric"] == metric]
    head = scope.headline_rows
    if not len(sizes) or not len(head) or not len(scope.clean):
        return pd.DataFrame()
    defense = "none" if (head["defense"] == "none").any() else str(head["defense"].iloc[0])
    found = []
    for name, rows in sizes.groupby("class"):
        attacked = head[(head["class"] == name) & (head["defense"] == defense)]
        clean = scope.clean[(scope.clean["class"] == name) & (scope.clean["defense"] == defense)]
        if not len(attacked) or not len(clean):
            continue
        worst = stats.worst_case(attacked)[["case", "patient", "value"]].rename(columns={"value": "attacked"})
        before = stats.per_case(clean)[["case", "value"]].rename(columns={"value": "clean"})
        size = rows.groupby("case", as_index=False)["value"].median().rename(columns={"value": "size"})
        about = {"class": name, "defense": defense, "metric": metric}
        found.append(worst.merge(before, on="case").merge(size, on="case").assign(**about))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _number(size: float) -> str:
    """Three digits, or all before the point: ``14.3``, ``1250``."""
    return f"{size:.0f}" if size >= 100 else f"{size:.3g}"


def _thirds(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All structures, and where there are enough the smallest, the middle and the largest third."""
    parts = [("all", table)]
    if len(table) >= FEWEST:
        order = table.sort_values(["size", "case", "class"], kind="stable")
        cuts = np.array_split(np.arange(len(order)), 3)
        parts = [(f"{name} third", order.iloc[cut]) for name, cut in zip(("smallest", "middle", "largest"), cuts)] + parts
    return parts


def _summary(part: pd.DataFrame, side: str) -> pd.Series:
    """Mean and interval over structures, patients drawn together."""
    low, high = stats.bootstrap_interval(part[side].to_numpy(), part["patient"].to_numpy())
    return pd.Series({"mean": part[side].mean(), "ci_low": low, "ci_high": high})


def _figure(scope: Scope, table: pd.DataFrame, unit: str) -> Markup:
    low, high = math.floor(math.log10(table["size"].min())), math.ceil(math.log10(table["size"].max()) + 1e-9)
    high = max(high, low + 1)
    x, y = scale(low, high, 34, 530), scale(0, 1, 200, 22)
    body = [rule(34, y(v), 530, y(v)) + text(28, y(v) + 4, f"{v:g}", anchor="end") for v in (0, 0.25, 0.5, 0.75, 1)]
    body += [text(x(power), 216, _number(10.0**power), anchor="middle") for power in range(low, high + 1)]
    body.append(text(282, 234, f"size of the structure, {unit}", kind="axis", anchor="middle"))
    body.append(text(34, 12, scope.heading, kind="axis"))
    classes = sorted(table["class"].unique())
    colours = {name: (PALETTE * len(classes))[k] if len(classes) > 1 else PALETTE[0] for k, name in enumerate(classes)}
    for _, row in table.iterrows():
        at = x(math.log10(row["size"]))
        change = " → ".join(words.fraction(row[side], 2) for side in ("clean", "attacked"))
        hover = escape(f"{row['class']}, {_number(row['size'])} {unit}: {change}")
        ring = f'<circle cx="{at:.1f}" cy="{y(row["clean"]):.1f}" r="2.6" fill="none" stroke="{GREY}" stroke-width="1"/>'
        mark = f'<circle cx="{at:.1f}" cy="{y(row["attacked"]):.1f}" r="3" fill="{colours[row["class"]]}" fill-opacity=".75"/>'
        body.append(f"<g><title>{hover}</title>{ring}{mark}</g>")
    lines = 0
    if 1 < len(classes) <= len(PALETTE):
        for k, name in enumerate(classes):
            body.append(f'<circle cx="{40 + 170 * (k % 3)}" cy="{250 + 16 * (k // 3)}" r="3.4" fill="{colours[name]}"/>')
            body.append(text(48 + 170 * (k % 3), 254 + 16 * (k // 3), words.shorten(name, 24), kind="lab", colour=INK))
        lines = -(-len(classes) // 3)
    label = (
        f"{scope.heading} under attack of {len(table)} structures against their size, from {_number(table['size'].min())} to "
        f"{_number(table['size'].max())} {unit}; mean {words.fraction(table['attacked'].mean(), 2)}, "
        f"clean {words.fraction(table['clean'].mean(), 2)}"
    )
    return svg(560, 240 + 18 * lines, label, body)
