"""The two figures of the card, drawn as SVG: the score against the size of the attack, and the paired gain of each defence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope

INK, GREY = "#1b2430", "#75808c"
PALETTE = ("#c4500a", "#0b6aa8", "#1b7f5c", "#7b4aa0", "#8a6d00", "#a0315f")


END, GAP = 330.0, 13.5
"""Where the curves end and their names begin, and how far apart the names stand."""


class Line(NamedTuple):
    """One curve; ``points`` has columns eps, mean, ci_low, ci_high."""

    label: str
    colour: str
    dash: str
    points: pd.DataFrame


def svg(width: float, height: float, label: str, body: list[str]) -> Markup:
    """An SVG picture with its description for those who do not see it."""
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>')


def text(x: float, y: float, words_: str, *, kind: str = "tick", anchor: str = "start", colour: str | None = None) -> str:
    """An SVG text; ``kind`` is its class in the style sheet."""
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{fill}>{escape(words_)}</text>'


def width(words_: str, size: float) -> float:
    """How wide a text may be, in px: no font of the card's has wider digits and letters on average."""
    return 0.62 * size * len(words_)


def rule(x1: float, y1: float, x2: float, y2: float, *, kind: str = "grid") -> str:
    """A straight SVG line; ``kind`` is its class in the style sheet."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The linear map of low..high onto start..end."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def nice_step(span: float, parts: int) -> float:
    """A step of 1, 2, 2.5 or 5 times a power of ten that cuts the span into at most ``parts`` parts."""
    power = 10.0 ** math.floor(math.log10(span / parts))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * parts >= span * (1 - 1e-9))


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions in the order of ``wanted`` moved as little as a top-down pass allows, at least ``gap`` apart, inside low..high."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    floor = low
    for i in order:
        placed[i] = floor = max(wanted[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def curve_lines(scope: Scope) -> list[Line]:
    """Noise and attack without a defence, then each defence against the attacker who knows it and the one who does not."""
    clean = stats.summarize(scope.clean, ["defense"]).assign(eps=0.0)

    def points(rows: pd.DataFrame, name: str) -> pd.DataFrame:
        rows = rows[rows["defense"] == name]
        found = stats.summarize(stats.worst_case(rows, ["eps"]), ["eps"]) if len(rows) else clean.iloc[:0]
        return pd.concat([clean[clean["defense"] == name], found])[["eps", "mean", "ci_low", "ci_high"]] if len(found) else found

    attacks = scope.attacked()
    lines = [Line("random noise", GREY, "2 3", points(scope.noise(), "none"))]
    lines.append(Line("no defence", INK, "", points(attacks, "none")))
    defended = [name for name in scope.defenses if name != "none"]
    for name, colour in zip(defended, PALETTE * len(defended)):
        for adaptive in (False, True) if len(defended) <= 3 else (True,):
            rows = stats.attacker(attacks, adaptive)
            label = words.shorten(name, 20) + ("" if adaptive else ", oblivious")
            lines.append(Line(label, colour, "" if adaptive else "6 3", points(rows, name)))
    return [line for line in lines if len(line.points)]


def curve(scope: Scope) -> Markup | None:
    """Score against size, with 95 % bands and a label at the end of each line. None where fewer than two sizes were attacked."""
    if scope.attacked()["eps"].nunique() < 2:
        return None
    lines = curve_lines(scope)
    sizes = sorted({0.0, *(eps for line in lines for eps in line.points["eps"])})
    bottom = 22 + max(214.0, GAP * len(lines))  # room for every label
    x, y = scale(0, sizes[-1], 34, END), scale(0, 1, bottom, 22)
    body = [rule(34, y(v), END, y(v)) + text(28, y(v) + 4, f"{v:g}", anchor="end") for v in (0, 0.25, 0.5, 0.75, 1)]
    free = math.inf
    for eps in reversed(sizes):
        half = width(f"{eps:g}", 11) / 2
        if x(eps) + half + 4 <= free:
            body.append(text(x(eps), bottom + 16, f"{eps:g}", anchor="middle"))
            free = x(eps) - half
    norm = " (L∞)" if scope.norm == "linf" else ""
    body.append(text((34 + END) / 2, bottom + 33, f"ε, {words.units(scope.unit)}{norm}", kind="axis", anchor="middle"))
    body.append(text(34, 12, f"{scope.heading}, mean and 95 % interval", kind="axis"))
    if scope.eps is not None:
        body.append(rule(x(scope.eps), 22, x(scope.eps), bottom, kind="mark"))
    ends = [(x(line.points["eps"].iloc[-1]), y(line.points["mean"].iloc[-1])) for line in lines]
    places = spread([end[1] for end in ends], GAP, 26, bottom - 8)
    bands, strokes, labels = [], [], []
    for line, (end_x, end_y), place in zip(lines, ends, places):
        p = line.points
        if p["ci_low"].notna().all():
            there = [f"{x(e):.1f},{y(v):.1f}" for e, v in zip(p["eps"], p["ci_high"])]
            back = [f"{x(e):.1f},{y(v):.1f}" for e, v in zip(p["eps"], p["ci_low"])]
            bands.append(f'<polygon points="{" ".join(there + back[::-1])}" fill="{line.colour}" opacity=".10"/>')
        path = " ".join(f"{x(e):.1f},{y(v):.1f}" for e, v in zip(p["eps"], p["mean"]))
        values = ", ".join(f"{words.fraction(v, 2)} at {e:g}" for e, v in zip(p["eps"], p["mean"]))
        hover = f"<title>{escape(line.label)}: {values}</title>"
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        strokes.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}>{hover}</polyline>')
        labels.append(f'<path d="M{end_x + 2:.1f} {end_y:.1f}L{END + 8:.1f} {place:.1f}" class="lead"/>')
        labels.append(text(END + 11, place + 4, line.label, kind="lab", colour=line.colour))
    told = "; ".join(
        f"{line.label} {words.fraction(line.points['mean'].iloc[0], 2)} to {words.fraction(line.points['mean'].iloc[-1], 2)}"
        for line in lines
    )
    label = f"Mean {scope.metric_name} from no change to changes of up to {words.size(sizes[-1], scope.unit)}: {told}"
    return svg(560, bottom + 38, label, body + bands + strokes + labels)


class Gain(NamedTuple):
    """Paired defence gain: score under attack minus that without a defence. ``known`` is against the headline's attacker, ``naive``
    against the oblivious one (None where not run). Where no attacker who knows the defence was run, ``known`` is None: the gain is
    not assessed."""

    name: str
    known: stats.Comparison | None
    naive: stats.Comparison | None
    p_holm: float

    @property
    def verdict(self) -> str:
        """``gain`` or ``loss`` where the corrected p is below .05 against an adaptive attacker, else why it is neither."""
        if self.known is None:
            return "not assessed"
        return "not separable" if not self.p_holm < 0.05 else "gain" if self.known.difference > 0 else "loss"


def gains(scope: Scope) -> list[Gain]:
    """The gain of each defence on the same images, with Holm's correction over the defences."""
    rows = scope.headline_rows
    names = [name for name in scope.defenses if (rows["defense"] == name).any()]
    if len(names) < 2 or names[0] != "none":
        return []
    cases, oblivious = stats.headline_cases(rows), stats.worst_case(stats.attacker(rows, False), ["defense"])
    bare = _of(cases, "none")
    known, naive = (
        [stats.compare(_of(side, name), bare) if (side["defense"] == name).any() else None for name in names[1:]]
        for side in (cases, oblivious)
    )
    p = stats.holm([math.nan if c is None else c.p for c in known])
    return [Gain(*found) for found in zip(names[1:], known, naive, p)]


def _of(cases: pd.DataFrame, name: str) -> pd.DataFrame:
    return cases.loc[cases["defense"] == name, ["case", "patient", "value"]]


def forest(scope: Scope, found: list[Gain]) -> Markup:
    """Each defence's gain with its interval (filled: the attacker of the headline; hollow: one who does not know the defence)."""
    shown = [c for g in found for c in (g.known, g.naive) if c is not None]
    ends = [v for c in shown for v in (c.difference, c.ci_low, c.ci_high) if not math.isnan(v)]
    span = max(max(0.0, *ends) - min(0.0, *ends), 0.05)
    step = nice_step(span, 5)
    low, high = step * math.floor(min(0.0, *ends) / step + 1e-9), step * math.ceil(max(step, *ends) / step - 1e-9)
    bottom = 22 + 34 * len(found) + 30
    x = scale(low, high, 164, 430)
    body = []
    for i in range(round((high - low) / step) + 1):
        at = low + i * step
        body.append(rule(x(at), 8, x(at), bottom, kind="zero" if abs(at) < step / 2 else "grid"))
        body.append(
            text(x(at), bottom + 16, words.gain(at, 3 if step < 0.01 else 2) if abs(at) > step / 2 else "0", anchor="middle")
        )
    body.append(
        text(152, 26, "no defence", kind="lab", anchor="end", colour=INK) + f'<circle cx="{x(0):.1f}" cy="22" r="4" fill="{INK}"/>'
    )
    body.append(text(444, 26, "reference", kind="lab", colour=INK))
    for row, gain in enumerate(found):
        y = 22 + 34 * (row + 1)
        colour = {"gain": "#1b7f5c", "loss": "#b3261e"}.get(gain.verdict, GREY)
        body.append(text(152, y + 4, words.shorten(gain.name, 20), kind="lab", anchor="end", colour=INK))
        if gain.naive is not None:
            body.append(_whisker(x, y - 6, gain.naive, "#98a2ad", hollow=True))
        if gain.known is not None:
            body.append(_whisker(x, y + 3, gain.known, colour))
        body.append(text(444, y + 7, gain.verdict, kind="lab", colour=colour))
    told = "; ".join(f"{g.name} {_in_words(g)}" for g in found)
    return svg(560, bottom + 24, f"Paired defence gain in {scope.metric_name}: {told}", body)


def _in_words(gain: Gain) -> str:
    known = gain.known
    return f"{gain.verdict}, adaptive not run" if known is None else f"{words.gain(known.difference)}, {gain.verdict}"


def _whisker(x: Callable[[float], float], y: float, c: stats.Comparison, colour: str, *, hollow: bool = False) -> str:
    fill = f'fill="#fff" stroke="{colour}" stroke-width="1.6"' if hollow else f'fill="{colour}"'
    low, high = (c.difference if math.isnan(v) else v for v in (c.ci_low, c.ci_high))
    line = (
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="{1.4 if hollow else 2.2}"/>'
    )
    hover = f"<title>{words.gain(c.difference)} ({words.gain(c.ci_low)} to {words.gain(c.ci_high)})</title>"
    return f'<g>{hover}{line}<circle cx="{x(c.difference):.1f}" cy="{y}" r="{3.2 if hollow else 4.2}" {fill}/></g>'
