"""Text of a study on volumes, from records alone: label tables with tests, curves over eps, and defence gains. Markdown.

``rows`` are those of :mod:`monai_advdef.papers.study_rows`; where the trainings are the folds of a cross-validation, every case is
in one of them. Class metrics are ``dice``, ``hd95_mm`` and ``volume_error_ml``, those of regions begin with ``region_``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.papers.study_rows import CLEAN, Pairs, per_image, tidy
from monai_advdef.report import words
from monai_advdef.report.paper_table import Line, markdown

MEAN = "mean of the labels"
CELL = ["network", "attack", "eps"]
LEVEL = 0.05


def scores(rows: pd.DataFrame, suffix: str = "dice") -> pd.DataFrame:
    """One metric of labels and regions: columns ``network, attack, eps, of, case, patient, value``, the mean over trainings.

    ``of`` is a label, a region, or, for Dice, :data:`MEAN`; a region with a label's name is that label.
    """
    labels = tidy(rows, suffix).rename(columns={"class": "of"})
    regions = tidy(rows, f"region_{suffix}").rename(columns={"class": "of"})
    parts = [labels, regions[~regions["of"].isin(labels["of"])]]
    unit = [*CELL, "of", "case", "patient"]
    found = pd.concat(parts).groupby(unit, as_index=False)["value"].mean()
    if suffix != "dice":
        return found
    return pd.concat([found, per_image(rows, "dice").assign(of=MEAN)], ignore_index=True)


def kinds(found: pd.DataFrame) -> list[str]:
    """The labels and regions in the order of a table, their mean last."""
    names = [str(name) for name in found["of"].unique() if name != MEAN]
    return [*names, MEAN] if (found["of"] == MEAN).any() else names


def clean_table(rows: pd.DataFrame, networks: Sequence[str]) -> str:
    """Dice of the images as they are, for every label and region: mean ± standard deviation over subjects, and the median."""
    clean = scores(rows)
    clean = clean[clean["attack"] == CLEAN]
    lines: list[Line] = []
    for of in kinds(clean):
        texts = {}
        for network in networks:
            values = clean.loc[(clean["of"] == of) & (clean["network"] == network), "value"]
            spread = f"{words.fraction(values.mean())} ± {words.fraction(values.std(ddof=0))}"
            texts[network] = f"{spread} ({words.fraction(values.median())})"
        lines.append((of, texts))
    note = "Mean ± standard deviation over subjects; in parentheses the median."
    return f"### Dice of clean images\n\n{note}\n\n{markdown('label or region', list(networks), lines)}"


def label_table(rows: pd.DataFrame, network: str, cells: Sequence[tuple[str, float]]) -> str:
    """Dice of every label and region, clean and under the attacks of ``cells`` (name, eps), with the paired test of the drop."""
    found = scores(rows[rows["network"] == network])
    tests, lines = [], []
    for attack, eps in cells:
        for of in kinds(found):
            part = found[found["of"] == of]
            clean, attacked = part[part["attack"] == CLEAN], part[(part["attack"] == attack) & (part["eps"] == eps)]
            test = stats.signed_rank(_scored(attacked), _scored(clean))
            tests.append((attack, eps, of, clean["value"].median(), attacked["value"].median(), test))
    for (attack, eps, of, before, after, test), p in zip(tests, stats.holm([test.p for *_, test in tests])):
        told = {
            "ε, σ": f"{eps:g}",
            "label or region": of,
            "n": str(test.n),
            "clean Dice": words.fraction(before),
            "Dice under attack": words.fraction(after),
            "difference [95 %]": _interval(test),
            "effect": words.gain(test.effect, 2),
            "p (Holm)": _p(p, test),
        }
        lines.append((attack, told))
    note = (
        "Medians of Dice over subjects; median of the paired differences with its 95 % bootstrap interval; matched-pairs "
        "rank-biserial effect; two-sided Wilcoxon signed-rank p, Holm-corrected over the table. ‡: so few subjects cannot reach "
        "p < .05, whatever they show."
    )
    columns = ["ε, σ", "label or region", "n", "clean Dice", "Dice under attack", "difference [95 %]", "effect", "p (Holm)"]
    return f"### {network}: Dice by label\n\n{note}\n\n{markdown('attack', columns, lines)}"


def physical_table(rows: pd.DataFrame, network: str, cells: Sequence[tuple[str, float]]) -> str:
    """HD95 in mm and volume error in ml, clean and under the attacks of ``cells``: median [quartiles] over subjects."""
    part = rows[rows["network"] == network]
    lines: list[Line] = []
    columns: list[str] = []
    for attack, eps in [(CLEAN, 0.0), *cells]:
        texts: dict[str, str] = {}
        for suffix, title in (("hd95_mm", "HD95, mm"), ("volume_error_ml", "volume error, ml")):
            found = scores(part[(part["attack_row"] == attack) & (part["eps"] == eps)], suffix)
            for of in kinds(found):
                low, middle, high = np.percentile(found.loc[found["of"] == of, "value"], [25, 50, 75])
                texts[f"{of}: {title}"] = f"{middle:.1f} [{low:.1f}, {high:.1f}]"
        columns = list(texts) or columns
        lines.append((CLEAN if attack == CLEAN else f"{attack}, {eps:g} σ", texts))
    turned = [(column, {name: texts.get(column, "–") for name, texts in lines}) for column in columns]
    note = "Median [quartiles] over subjects. An empty mask against one that is not counts the diagonal of the field of view."
    return f"### {network}: distances and volumes\n\n{note}\n\n{markdown('', [name for name, _ in lines], turned)}"


def drop_table(rows: pd.DataFrame, network: str, attacks: Sequence[str]) -> str:
    """Mean label Dice over eps under every attack, its drop relative to the clean one, and the eps where that is 65 %."""
    means = _means(rows, network)
    clean = means[CLEAN, 0.0]
    sizes = sorted({eps for attack, eps in means.index if attack in attacks})
    lines: list[Line] = []
    for attack in attacks:
        values = {eps: float(means[attack, eps]) for eps in sizes if (attack, eps) in means.index}
        texts = {f"{eps:g}": f"{words.fraction(v)} (−{100 * (1 - v / clean):.0f} %)" for eps, v in values.items()}
        reached = eps_of_drop(values, clean)
        lines.append((attack, {**texts, "ε of −65 %": "–" if reached is None else f"{reached:.2g}"}))
    note = f"Mean over subjects of the mean Dice of the labels; clean {words.fraction(clean)}; in parentheses its relative drop."
    table = markdown("attack", [*(f"{eps:g}" for eps in sizes), "ε of −65 %"], lines)
    return f"### {network}: mean label Dice over ε (σ)\n\n{note}\n\n{table}"


def eps_of_drop(values: dict[float, float], clean: float, share: float = 0.65) -> float | None:
    """The least eps at which the score is ``share`` of the clean one lower, linear between the eps run; None if it never does."""
    sizes = [0.0, *sorted(values)]
    drops = [0.0, *(1 - values[eps] / clean for eps in sorted(values))]
    for (a, low), (b, high) in zip(zip(sizes, drops), zip(sizes[1:], drops[1:])):
        if high >= share:
            return b if high == low else a + (b - a) * (share - low) / (high - low)
    return None


def defense_table(rows: pd.DataFrame, networks: Sequence[str], attacks: Sequence[str], eps: float) -> str:
    """Mean label Dice and whole-tumour Dice of every network, clean, under every attack at ``eps`` and in the worst case of them."""
    lines: list[Line] = []
    for network in networks:
        found = scores(rows[rows["network"] == network])
        texts = {CLEAN: _two(found[found["attack"] == CLEAN])}
        for attack in attacks:
            texts[attack] = _two(found[(found["attack"] == attack) & (found["eps"] == eps)])
        texts["worst case per subject"] = _two(worst(found, attacks, eps))
        lines.append((network, texts))
    note = (
        f"ε = {eps:g} σ. Whole-tumour Dice / mean Dice of the labels, means over subjects. *Worst case per subject*: for every "
        "subject the lowest over the attacks of the line. A dash: not run on this network."
    )
    return f"### Defences\n\n{note}\n\n{markdown('network', [CLEAN, *attacks, 'worst case per subject'], lines)}"


def masking_table(rows: pd.DataFrame, networks: Sequence[str], attacks: Sequence[str], eps: float) -> str:
    """Share of every attack's gradient that is exactly zero, in per cent, mean over subjects: what a masked gradient looks like."""
    images = per_image(rows, "zero_gradient")
    means = images[images["eps"] == eps].groupby(["network", "attack"])["value"].mean()
    lines: list[Line] = [
        (n, {a: f"{100 * means[n, a]:.1f}" for a in attacks if (n, a) in means.index and pd.notna(means[n, a])}) for n in networks
    ]
    note = f"ε = {eps:g} σ; per cent of the entries of the gradient, mean over subjects and steps."
    return f"### Gradients that are exactly zero\n\n{note}\n\n{markdown('network', list(attacks), lines)}"


def worst(found: pd.DataFrame, attacks: Sequence[str], eps: float) -> pd.DataFrame:
    """Of :func:`scores`, per subject and label the lowest over the attacks at one eps."""
    attacked = found[found["attack"].isin(attacks) & (found["eps"] == eps)]
    return attacked.groupby(["network", "of", "case", "patient"], as_index=False)["value"].min().assign(attack="worst", eps=eps)


def defense_pairs(rows: pd.DataFrame, pairs: Pairs, attacks: Sequence[str], eps: float) -> str:
    """Paired tests of networks, on the mean label Dice: clean, under each attack that both met, and in the worst case."""
    tests = []
    for a, b in pairs:
        one, two = (scores(rows[rows["network"] == n]) for n in (a, b))
        one, two = (found[found["of"] == MEAN] for found in (one, two))
        for attack in (CLEAN, *attacks, "worst case per subject"):
            left, right = (_cell(found, attack, attacks, eps) for found in (one, two))
            if len(left) and len(right):
                tests.append((a, b, attack, stats.signed_rank(_scored(left), _scored(right))))
    lines: list[Line] = [
        (
            f"{a} − {b}",
            {
                "attack": attack,
                "n": str(test.n),
                "median difference [95 %]": _interval(test),
                "effect": words.gain(test.effect, 2),
                "p (Holm)": _p(p, test),
            },
        )
        for (a, b, attack, test), p in zip(tests, stats.holm([test.p for *_, test in tests]))
    ]
    columns = ["attack", "n", "median difference [95 %]", "effect", "p (Holm)"]
    note = f"Mean label Dice at ε = {eps:g} σ, paired by subject; tests as above."
    return f"### Defences compared\n\n{note}\n\n{markdown('comparison', columns, lines)}"


def _cell(found: pd.DataFrame, attack: str, attacks: Sequence[str], eps: float) -> pd.DataFrame:
    if attack == CLEAN:
        return found[found["attack"] == CLEAN]
    return found[(found["attack"] == attack) & (found["eps"] == eps)] if attack in attacks else worst(found, attacks, eps)


def _means(rows: pd.DataFrame, network: str) -> pd.Series:
    images = per_image(rows[rows["network"] == network], "dice")
    return images.groupby(["attack", "eps"])["value"].mean()


def _two(found: pd.DataFrame) -> str:
    """``.722 / .429``: whole tumour, and the mean of the labels."""
    if not len(found):
        return "–"
    whole = found.loc[found["of"] == "whole tumour", "value"].mean()
    return f"{words.fraction(whole)} / {words.fraction(found.loc[found['of'] == MEAN, 'value'].mean())}"


def _scored(found: pd.DataFrame) -> pd.DataFrame:
    return found[["case", "patient", "value"]]


def _interval(test: stats.SignedRank) -> str:
    return f"{words.gain(test.median)} [{words.gain(test.ci_low)}, {words.gain(test.ci_high)}]"


def _p(p: float, test: stats.SignedRank) -> str:
    return words.p_value(p) + (" ‡" if test.least_p > LEVEL else "")
