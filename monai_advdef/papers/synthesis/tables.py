"""Tables of a study of deformations and intensity changes beside table 1 of paper 002. Markdown.

Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from monai_advdef.papers.synthesis.scores import EQUAL, FIELDS, GENERATOR, SUCCESS, Line, of_kind
from monai_advdef.report import paper_table, words

ORGANS = ("pancreas", "kidneys", "liver", "spleen")
PAPER_CLEAN = (80.07, 94.74, 94.71, 94.76)
PAPER: dict[tuple[float, str], tuple[float, ...]] = {
    (0.5, "both"): (74.77, 93.88, 89.81, 81.87, 0.061),
    (1.0, "both"): (70.66, 90.06, 59.51, 37.12, 0.060),
    (1.5, "both"): (64.25, 66.97, 26.45, 35.81, 0.075),
    (2.0, "both"): (53.59, 60.07, 11.19, 17.21, 0.074),
    (2.5, "both"): (40.57, 45.47, 9.16, 17.60, 0.084),
    (3.0, "both"): (31.49, 43.43, 5.82, 26.58, 0.085),
    (2.0, "deformation"): (70.46, 82.04, 75.06, 70.47, 0.056),
    (2.0, "intensity"): (68.15, 88.25, 50.05, 46.94, 0.061),
}
"""Dice of pancreas, kidneys, liver and spleen in per cent, and perceptibility, by xi and parts. Rows are numbered, not labelled, in
the paper: that they are xi from 0.5 to 3 in steps of 0.5, and the xi of the last two, is our reading."""
FELL = " ▼"
P = "perceptibility, σ"


class Units(NamedTuple):
    """What lengths and intensities of the records are in: ``length`` ``"mm"`` or ``"pixels"``, ``intensity`` such as ``"HU"``."""

    length: str
    intensity: str


def counted(found: Sequence[Line]) -> str:
    """How many patients and images the numbers are of, and how they are pooled."""
    rows, per = found[0].rows, found[0].per
    patients, images = rows["patient"].nunique(), rows["case"].nunique()
    runs = {len(line.rows["run"].unique()) for line in of_kind(found, GENERATOR)}
    told = f"n = {words.count(patients, 'patient')}, {words.count(images, 'image')}. "
    told += "Dice of a patient: the voxels of all its images together" if per == "patient" else "Dice of every image for itself"
    told += f"; one that shows no voxel of an organ is left out for it. Mean ± standard deviation over the {per}s"
    if runs and max(runs) > 1:
        told += f"; a generator's row is the mean over the last {max(runs)} that its training kept (in parentheses: their range)"
    return told + "."


def sigma(found: Sequence[Line], units: Units) -> str:
    """What perceptibility is measured in, and how much that is in image units."""
    rows = pd.concat([line.rows for line in found])
    means = rows[rows["class"] == "image"].groupby("metric")["value"].mean()
    share = means["change_rms"] / means["perceptibility"] if means["perceptibility"] > 0 else float("nan")
    return (
        "Perceptibility is the root mean square of the change in σ, the standard deviation of each clean image as the network gets "
        f"it (window and all; here 1 σ is about {share:.3g} {words.units(units.intensity)}). The paper's σ is that of a z-scored "
        "subject, of a range that it does not state: the same change is a larger number here if that was the full range of CT."
    )


def dice_table(found: Sequence[Line], against: str = "dice") -> str:
    """Dice in per cent against the labels as they are (``"dice"``, with the paper's rows) or as warped (``"warped"``)."""
    organs = list(found[0].organs)
    drops = "drop" if against == "dice" else "warped_drop"
    clean = found[0].organs
    told: list[paper_table.Line] = [
        ("clean", {o: _mean(clean[o], "clean") for o in organs}),
        (f"{100 * (1 - SUCCESS):.0f} % of clean", {o: f"{100 * (1 - SUCCESS) * clean[o]['clean']:.1f}" for o in organs}),
    ]
    if against == "dice":
        told.insert(1, ("*the paper, clean*", _paper(PAPER_CLEAN, organs)))
    for line in found:
        table = line.organs
        texts = {o: _mean(table[o], against) + FELL * line.fell(o, drops) for o in table}
        told.append((line.name, {**texts, P: _perceptibility(line)}))
        if against == "dice" and line.kind == GENERATOR and (line.xi, line.parts) in PAPER:
            *dices, p = PAPER[line.xi, line.parts]
            told.append((f"*the paper, ξ = {line.xi:g}*", {**_paper(dices, organs), P: words.fraction(p)}))
    title = "the labels as they are" if against == "dice" else "the labels warped along with the image"
    note = f"{FELL.strip()}: a drop of {100 * SUCCESS:.0f} % or more of the clean Dice."
    if of_kind(found, EQUAL):
        note += (
            " *At equal perceptibility*: the weights on the norm of the field attack's fields were multiplied by factors; of "
            "these runs the one nearest to the generator's perceptibility, but not above it, is shown (nothing is interpolated)."
        )
    return f"### Dice against {title}, %\n\n{note}\n\n{paper_table.markdown('', [*organs, P], told)}"


def drop_table(found: Sequence[Line]) -> str:
    """Relative drops in Dice, and the share of mere motion."""
    organs = list(found[0].organs)
    told: list[paper_table.Line] = []
    for line in found:
        table = line.organs
        texts = {}
        for o in table:
            whole, warped = 100 * table[o]["drop"], 100 * table[o]["warped_drop"]
            texts[o] = f"{whole:.1f} / {warped:.1f} / {whole - warped:.1f} / {100 * table[o]['motion']:.1f}".replace("-", "−")
        told.append((line.name, texts))
    note = (
        "Relative drop in Dice in % against the labels as they are / against the labels warped along / the difference, mere "
        "motion / Dice of the warped labels and the labels: what a segmenter that follows every motion would reach."
    )
    return f"### Drops in Dice, and the share of motion\n\n{note}\n\n{paper_table.markdown('', organs, told)}"


def change_table(found: Sequence[Line], units: Units) -> str:
    """What was done to the images."""
    grey = words.units(units.intensity)
    columns: dict[str, Callable[[Line], str]] = {
        P: _perceptibility,
        f"change (RMS), {grey}": lambda line: f"{line.reading('change_rms').mean():.2f}",
        "SSIM": lambda line: words.fraction(line.reading("ssim").mean()),
        f"displacement, {units.length}: mean / largest": lambda line: (
            f"{line.reading('displacement_mean_mm').mean():.2f} / {line.reading('displacement_max_mm').max():.2f}"
        ),
        f"intensity field, {grey}: RMS / largest": lambda line: (
            f"{line.reading('intensity_rms').mean():.1f} / {line.reading('intensity_max').max():.1f}"
        ),
        "least Jacobian": lambda line: words.fraction(line.reading("min_jacobian").min()),
    }
    told: list[paper_table.Line] = [(line.name, {name: text(line) for name, text in columns.items()}) for line in found]
    note = "Means over the images, extremes over all of them. Above 0 the least Jacobian says that no image is folded."
    return f"### What was changed\n\n{note}\n\n{paper_table.markdown('', list(columns), told)}"


def csv(found: Sequence[Line]) -> pd.DataFrame:
    """All of it as numbers, a row for every line and organ."""
    parts = []
    for line in found:
        about = {"line": line.name, "kind": line.kind, "xi": line.xi, "parts": line.parts}
        means = {m: line.reading(m).mean() for m in ("perceptibility", "change_rms", "ssim", "displacement_mean_mm")}
        means |= {m: line.reading(m).max() for m in ("displacement_max_mm", "intensity_max")}
        table = pd.DataFrame.from_dict(line.organs, orient="index").rename_axis("organ").reset_index()
        parts.append(table.assign(**about, **means, min_jacobian=line.reading("min_jacobian").min()))
    return pd.concat(parts, ignore_index=True)


def shown(found: Sequence[Line]) -> list[Line]:
    """The lines in the order of the tables: the generators, the field attacks, those of equal perceptibility."""
    order = {GENERATOR: 0, FIELDS: 1}
    return sorted(found, key=lambda line: order.get(line.kind, 2))


def _mean(entry: Mapping[str, float], name: str) -> str:
    told = f"{100 * entry[name]:.1f} ± {100 * entry[f'{name}_std']:.1f}"
    low, high = 100 * entry[f"{name}_low"], 100 * entry[f"{name}_high"]
    return told if high - low < 0.05 else f"{told} ({low:.1f}–{high:.1f})"


def _perceptibility(line: Line) -> str:
    values = line.reading("perceptibility")
    images, runs = values.groupby("case").mean(), values.groupby("run").mean()
    told = f"{words.fraction(images.mean())} ± {words.fraction(images.std(ddof=0))}"
    return told if len(runs) == 1 else f"{told} ({words.fraction(runs.min())}–{words.fraction(runs.max())})"


def _paper(values: Sequence[float], organs: Sequence[str]) -> dict[str, str]:
    """The paper's value for every organ of ours that it has too."""
    return {organ: f"*{value:.2f}*" for organ, value in zip(ORGANS, values) if organ in organs}
