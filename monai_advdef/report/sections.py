"""Tables of the card that only some evaluations have: certificates, detectors, confidence; made of their readings."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from monai_advdef import stats
from monai_advdef.diagnostic_stats import Estimate
from monai_advdef.report import words
from monai_advdef.report.scope import Scope
from monai_advdef.warning_stats import warnings_table

BOUND, ABSTAINED = "certified_dice_r", "abstained_r"
CONFIDENCE = ("confidence", "confidence_foreground", "entropy")


class Section(NamedTuple):
    """A heading, the heads of a table, its rows of text, and what is said below it; the numbers of rows that are set in grey, and a
    figure above the table."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str
    faint: frozenset[int] = frozenset()
    figure: Markup | None = None


def sections(scope: Scope) -> list[Section]:
    """Those that the records can fill."""
    return [found for make in (certificates, detection, confidence) if (found := make(scope)) is not None]


def certificates(scope: Scope) -> Section | None:
    """Certified Dice by radius and class, for every set of options and defence."""
    rows = scope.every[scope.every["metric"].str.startswith(BOUND)]
    if not len(rows):
        return None
    classes, lines = sorted(rows["class"].unique()), []
    for _, cell in scope.every[scope.every["fingerprint"].isin(rows["fingerprint"].unique())].groupby("fingerprint"):
        radii = sorted({m.removeprefix(BOUND) for m in cell["metric"] if m.startswith(BOUND)}, key=float)
        told = {k: cell.loc[cell["metric"] == f"certificate_{k}", "value"].iloc[0] for k in ("sigma", "n", "alpha")}
        about = [f"{told['sigma']:g}", f"{told['n']:g}", words.defence(cell["defense"].iloc[0])]
        lines.append([*about, "smoothed, no change", *(_mean(cell, c, "smoothed_dice") for c in classes), "–"])
        for radius in radii:
            scores = [_mean(cell, c, BOUND + radius) for c in classes]
            lines.append([*about, radius, *scores, _mean(cell, "image", ABSTAINED + radius)])
    unit = words.units(str(scope.every["unit"][scope.every["unit"] != ""].iloc[0])) if (scope.every["unit"] != "").any() else ""
    alpha = scope.every.loc[scope.every["metric"] == "certificate_alpha", "value"].max()
    attacked = scope.every.loc[scope.every["attack"] != "none", "l2"].max()
    aside = f" The attacks of this card change an image by up to {attacked:.4g} in that measure." if attacked > 0 else ""
    note = (
        f"Certified {scope.metric_name} of the network smoothed by noise (Fischer et al. 2021): no change of the image whose L2 "
        f"length is below the radius{f' (in {unit})' if unit else ''} can leave a lower {scope.metric_name}; true of each image "
        f"and radius with probability {1 - alpha:g} at least. Voxels that abstain count as errors. Noise is not clipped.{aside}"
    )
    heads = [
        "noise, sigma",
        "draws",
        "defence",
        "radius",
        *(f"certified {scope.metric_name}, {c}" for c in classes),
        "voxels that abstain",
    ]
    return Section("Certified by randomised smoothing", heads, lines, note)


def _mean(cell: pd.DataFrame, name: str, metric: str) -> str:
    rows = cell[(cell["class"] == name) & (cell["metric"] == metric)]
    if not len(rows):
        return "–"
    (summary,) = stats.summarize(rows, ["defense"]).to_dict("records")
    return f"{words.fraction(summary['mean'])} ({words.interval(summary['ci_low'], summary['ci_high'])})"


def detection(scope: Scope) -> Section | None:
    """What a detector by disagreement sees of each attack."""
    table = [entry for entry in warnings_table(scope.every, ["disagreement"]) if "disagreement" in entry["alarms"]]
    if not table:
        return None
    heads = ["", scope.heading, "disagreement", "AUROC against clean", "alarms", "failed", "failed, caught"]
    rows = [
        [
            *_about(entry),
            words.fraction(entry["means"]["disagreement"]),
            _estimate(entry["auroc"].get("disagreement")),
            _estimate(entry["alarms"]["disagreement"]),
            f"{entry['failed']} of {entry['n']}",
            _estimate(entry["caught"]["disagreement"]),
        ]
        for entry in table
    ]
    note = (
        "Disagreement: 1 minus the Dice between the prediction for the image and for the image behind a defence. An alarm: "
        f"more than all but {words.fraction(table[0]['rate'], 2)} of the clean validation cases. {_failed(table, scope)} An attack "
        "called evading knows the detector: what it leaves is what the detector is worth. Intervals: 95 %, DeLong and Wilson."
    )
    return Section("Does the detector see it?", heads, rows, note)


def confidence(scope: Scope) -> Section | None:
    """Confidence and calibration, clean and attacked, and of the failed cases those that a threshold would have caught."""
    table = [entry for entry in warnings_table(scope.every, CONFIDENCE) if set(CONFIDENCE) <= set(entry["alarms"])]
    if not table:
        return None
    heads = ["", scope.heading, "confidence", "of the foreground", "entropy", "ECE", "ECE, foreground", "failed"]
    heads += [f"failed, caught by {name.replace('_', ' of the ')}" for name in CONFIDENCE]
    rows = []
    for entry in table:
        means = [words.fraction(entry["means"].get(name)) for name in (*CONFIDENCE, "ece", "ece_foreground")]
        caught = [_estimate(entry["caught"][name]) for name in CONFIDENCE]
        rows.append([*_about(entry), *means, f"{entry['failed']} of {entry['n']}", *caught])
    return Section(
        "Does confidence warn?",
        heads,
        rows,
        f"{_verdict(table)} {_failed(table, scope)} ECE: expected calibration error, 15 bins.",
    )


def _verdict(table: list[dict[str, Any]]) -> str:
    """The answer in one sentence, of the attack that makes most cases fail."""
    attacked = [entry for entry in table if entry["attack"] != "none"]
    worst = max(attacked or table, key=lambda entry: (entry["failed"], -entry["dice"]))
    where = "on clean images" if worst["attack"] == "none" else f"under {_name(worst)}"
    if not worst["failed"]:
        return f"No case failed {where}, so there was nothing to warn of."
    best = max(CONFIDENCE, key=lambda name: worst["caught"][name].value)
    caught = worst["caught"][best]
    told = best.replace("_", " of the ")
    return (
        f"Of {words.count(worst['failed'], 'case')} that failed {where}, the best threshold ({told}), set for "
        f"{words.fraction(worst['rate'], 2)} false alarms on clean validation cases, would have caught "
        f"{round(caught.value * caught.n)} ({_estimate(caught)})."
    )


def _failed(table: list[dict[str, Any]], scope: Scope) -> str:
    return f"Failed: a {scope.metric_name} below {words.fraction(table[0]['goal'], 2)}."


def _name(entry: dict[str, Any]) -> str:
    name = words.attack(entry)
    return name if entry["attack"] == "none" else f"{name}, {words.size(entry['eps'], entry['unit'])}"


def _about(entry: dict[str, Any]) -> list[str]:
    defence = "" if entry["defense"] == "none" else f", {words.defence(entry['defense'])}"
    return [_name(entry) + defence, words.fraction(entry["dice"])]


def _estimate(found: Estimate | None) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    interval = words.interval(found.ci_low, found.ci_high)
    return words.fraction(found.value, 2) + (f" ({interval})" if interval else "")
