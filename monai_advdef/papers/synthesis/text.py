"""What the numbers of a study of deformations and intensity changes say, in sentences: drops, trend, baseline, the paper's claim.

Source: the claims of Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import spearmanr

from monai_advdef.papers.synthesis.scores import GENERATOR, SUCCESS, TOLERANCE, Line, of_kind, partners
from monai_advdef.report import words

CLAIM = 0.075
"""Perceptibility at which the Dice of all organs dropped in the paper (its rows for xi 1.5 and 2)."""
TREND = 0.8
"""Spearman's rho from which on a drop is said to grow with xi: the project's own criterion."""
LEAST = 3
"""Rows that a trend needs."""


def paragraph(found: Sequence[Line]) -> str:
    """All sentences that the lines allow."""
    told = [drops(found), trend(found), baseline(found), components(found), claim(found)]
    return "### In words\n\n" + "\n\n".join(text for text in told if text) + "\n"


def drops(found: Sequence[Line]) -> str:
    """Which organs dropped at which xi, by the generator of both fields; by whatever there is where there is none."""
    made = of_kind(found, GENERATOR, "both") or of_kind(found, GENERATOR)
    if not made:
        return ""
    told = []
    for against, title in (("drop", "the labels as they are"), ("warped_drop", "the labels warped along")):
        parts = []
        for organ in made[0].organs:
            sizes = [f"{line.xi:g}" for line in made if organ in line.organs and line.fell(organ, against)]
            parts.append(f"{organ} {'at ξ = ' + words.listing(sizes) if sizes else 'at no ξ'}")
        told.append(f"against {title} {', '.join(parts)}")
    return f"**Drops of {100 * SUCCESS:.0f} % or more** by the trained generator: {told[0]}; {told[1]}."


def trend(found: Sequence[Line]) -> str:
    """Whether the mean drop of the organs grows with xi."""
    made = of_kind(found, GENERATOR, "both")
    if len({line.xi for line in made}) < LEAST:
        return ""
    drops = [line.mean_drop for line in made]
    rho = float(spearmanr([line.xi for line in made], drops).statistic)
    values = ", ".join(f"{100 * d:.1f}" for d in drops).replace("-", "−")
    verdict = "grows" if rho >= TREND else "does not grow clearly"
    return (
        f"**Trend.** The mean drop of the organs **{verdict}** with ξ: {values} % at ξ = "
        f"{words.listing([f'{line.xi:g}' for line in made])} (Spearman's ρ {words.fraction(rho, 2)} over {len(made)} rows; from "
        f"{words.fraction(TREND, 1)} on we say that it grows)."
    )


def baseline(found: Sequence[Line]) -> str:
    """Whether the field attack, optimised for each image, is at least as strong as the generator at equal perceptibility."""
    told: list[str] = []
    held: list[bool | None] = []
    for line, other in partners(found):
        comparable = other.perceptibility <= (1 + TOLERANCE) * line.perceptibility
        stronger = other.mean_drop >= line.mean_drop
        where = f"{line.name.removeprefix(GENERATOR + ', ')}: {_at(other)} against {_at(line)}"
        near = other.perceptibility >= (1 - TOLERANCE) * line.perceptibility
        if not comparable:
            held.append(None)
            told.append(f"{where} (no weight of the penalty brought it down to the generator's: not comparable)")
        elif stronger:
            held.append(True)
            told.append(where if near else f"{where} (with less change)")
        else:
            held.append(False if near else None)
            told.append(f"{where} (weaker{'' if near else ', but with less change: undecided'})")
    if not told:
        return ""
    verdict = (
        f"at least as strong in {words.count(held.count(True), 'row')} of {len(held)}, weaker in {held.count(False)}, undecided in "
        f"{held.count(None)}"
    )
    return (
        f"**Optimised for each image, at equal perceptibility** (at most {100 * TOLERANCE:.0f} % above the generator's) the field "
        f"attack is {verdict}. Mean drops, {'; '.join(told)}."
    )


def components(found: Sequence[Line]) -> str:
    """Deformation and intensity alone: which lowers the Dice of which organ more."""
    alone = {part: of_kind(found, GENERATOR, part) for part in ("deformation", "intensity")}
    pairs = [(d, v) for d in alone["deformation"] for v in alone["intensity"] if d.xi == v.xi]
    told = []
    for d, v in pairs:
        organs = [o for o in d.organs if o in v.organs]
        by = {"deformation": [o for o in organs if d.organs[o]["drop"] > v.organs[o]["drop"]]}
        by["intensity"] = [o for o in organs if o not in by["deformation"]]
        parts = [f"{part} alone lowers the Dice of {words.listing(names)} more" for part, names in by.items() if names]
        told.append(f"At ξ = {d.xi:g} {' and '.join(parts)} (perceptibility {_p(d)} and {_p(v)})")
    if not told:
        return ""
    return f"**Components.** {'; '.join(told)}. The paper: deformation the kidneys, intensity the other organs."


def claim(found: Sequence[Line]) -> str:
    """The answer to "all organs fall by 30 % at a perceptibility of .075"."""
    told = []
    for against, title in (("drop", "labels as they are"), ("warped_drop", "warped labels")):
        whole = [line for line in found if all(line.fell(organ, against) for organ in line.organs)]
        if not whole:
            told.append(f"against the {title} no row has all organs down")
            continue
        least = min(whole, key=lambda line: line.perceptibility)
        reached = "reached" if least.perceptibility <= CLAIM else "not reached"
        told.append(
            f"against the {title} {reached}: the least perceptible row with all organs down is {least.name}, at {_p(least)} σ"
        )
    quoted = f'"All organs fall by {100 * SUCCESS:.0f} % at a perceptibility of {words.fraction(CLAIM)}"'
    return f"**{quoted}**, the paper's claim: {'; '.join(told)}."


def _at(line: Line) -> str:
    return f"{100 * line.mean_drop:.1f} % at {_p(line)} σ"


def _p(line: Line) -> str:
    return words.fraction(line.perceptibility)
