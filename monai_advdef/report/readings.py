"""What a clinician reads off the segmentations: surfaces, lesions found and volumes, clean and under attack."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope
from monai_advdef.report.sections import Section


class Measure(NamedTuple):
    """How a reading is called, its unit (empty: a share of 1), and whether only its size counts."""

    name: str
    unit: str = ""
    size: bool = False


MEASURES = {
    "nsd": Measure("surface Dice (NSD)"),
    "hd95_mm": Measure("distance of the surfaces (HD95)", "mm"),
    "hd95_px": Measure("distance of the surfaces (HD95)", "pixels"),
    "component_recall": Measure("labelled components that are found"),
    "component_precision": Measure("predicted components that are true"),
    "volume_change_ml": Measure("volume that is too much or too little", "ml", size=True),
    "volume_change_px": Measure("volume that is too much or too little", "voxels", size=True),
    "volume_change_percent": Measure("the same, of the labelled volume", "%", size=True),
    "area_change_mm2": Measure("area that is too much or too little", "mm²", size=True),
    "area_change_px": Measure("area that is too much or too little", "pixels", size=True),
    "area_change_percent": Measure("the same, of the labelled area", "%", size=True),
    "network_dice": Measure("on what the model's own postprocessing leaves"),
}
"""By their names in the records (see ``GridHandler``), in the order of the table."""


def readings(scope: Scope) -> Section | None:
    """Readings of the undefended network (else of the first defence), clean and under the attack of the headline's size that leaves
    the lowest score; None where there are none."""
    table = scope.every[scope.every["metric"].isin(list(MEASURES))]
    if not len(table) or not len(scope.clean):
        return None
    defense = "none" if (table["defense"] == "none").any() else str(table["defense"].iloc[0])
    table = table[table["defense"] == defense]
    cells = {"clean": set(scope.clean["fingerprint"]), "under attack": _worst(scope, defense)}
    rows = []
    for metric, measure in MEASURES.items():
        found = table[table["metric"] == metric]
        if not len(found):
            continue
        found = found.assign(value=found["value"].abs()) if measure.size else found
        name = f"{scope.metric_name} {measure.name}" if metric == "network_dice" else measure.name
        name = name.replace("labelled", "clean") if scope.stability else name
        rows.append([name, measure.unit or "–", *(_mean(found[found["fingerprint"].isin(c)], measure) for c in cells.values())])
    note = (
        f"Means over cases and classes, {words.defence(defense)}, on the grid of the files, clean and under the attack of the "
        f"headline that leaves the lowest {scope.metric_name}. Of changes their size counts, whether too much or too little. Where "
        "one of the two masks is empty a distance is the diagonal of the field of view, and the shares are 0. Intervals: 95 %, "
        "bootstrap over patients."
    )
    return Section("Surfaces, components and volumes", ["reading", "unit", *cells], rows, note)


def _worst(scope: Scope, defense: str) -> set[str]:
    """The cells of the attack of the headline's size that leaves the lowest score."""
    rows = scope.headline_rows
    rows = rows[rows["defense"] == defense]
    if not len(rows):
        return set()
    return {str(min(rows.groupby("fingerprint"), key=lambda cell: stats.per_case(cell[1], ["attack"])["value"].mean())[0])}


def _mean(rows: pd.DataFrame, measure: Measure) -> str:
    rows = rows.dropna(subset="value")
    if not len(rows):
        return "–"
    one = stats.summarize(rows, ["fingerprint"]).iloc[-1]
    if not measure.unit:
        return words.mean(one)
    between = "" if pd.isna(one["ci_low"]) else f" ({_number(one['ci_low'])}–{_number(one['ci_high'])})"
    return _number(one["mean"]) + between


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
