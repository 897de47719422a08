"""The page of a comparison: one self-contained HTML file with a forest plot of every pair under every condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monai_advdef.comparison.comparing import Compared, Comparison
from monai_advdef.comparison.tables import HEADS, LEFT, called, cells, change, remarks, span
from monai_advdef.neighbours import cannot_write, whole
from monai_advdef.report import card, words
from monai_advdef.report.figures import GREY, INK, nice_step, rule, scale, svg, text

HERE = Path(__file__).parent
BETTER, WORSE = "#0b6aa8", "#c4500a"
"""Colours of the first and of the second of a pair, where it is the better one."""
ROW, HEAD, BEGIN, END, WIDE = 24, 30, 250, 600, 800


def build_page(found: Comparison, path: str | Path) -> Path:
    """Write the page and return its path.

    Raises:
        OSError: it cannot be written; names it and the remedy.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as new:
            new.write_text(render(found), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "the comparison") from error
    return path


def render(found: Comparison) -> str:
    """The HTML of the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("compare.html.j2").render(
        style=Markup((Path(card.__file__).parent / "card.css").read_text(encoding="utf-8")),
        title=words.shorten(" · ".join(side["name"] for side in found.sides), 90),
        sentence=sentence(found),
        forest=forest(found),
        measure=called(found.measure),
        sides=found.sides,
        heads=HEADS,
        left=LEFT,
        rows=cells(found),
        remarks=remarks(found),
        doubts=found.doubts,
    )


def sentence(found: Comparison) -> str:
    """The result under the first condition, the worst case of a suite where there is one."""
    first = [row for row in found.rows if row.condition == found.rows[0].condition]
    told = []
    for row in first:
        if row.verdict == "not separable":
            told.append(f"{row.a} and {row.b} are not separable ({change(found.measure, row.difference)})")
        else:
            better = row.verdict.removesuffix(" better")
            other = row.b if better == row.a else row.a
            told.append(f"{better} is better than {other} by {change(found.measure, abs(row.difference)).removeprefix('+')}")
    return f"{called(found.measure)}, {first[0].condition}: {'; '.join(told)}."


def forest(found: Comparison) -> Markup:
    """Every pair's mean difference with its interval, by condition; grey where the pair is not separable."""
    ends = [v for row in found.rows for v in (row.difference, row.ci_low, row.ci_high) if math.isfinite(v)]
    reach = max((abs(v) for v in ends), default=0.0) or 0.05
    step = nice_step(2 * reach, 8)
    reach = step * math.ceil(reach / step - 1e-9)
    x = scale(-reach, reach, BEGIN, END)
    groups = [(name, list(rows)) for name, rows in groupby(found.rows, key=lambda row: row.condition)]
    bottom = 8 + sum(HEAD + ROW * len(rows) for _, rows in groups)
    body = [rule(x(k * step), 8, x(k * step), bottom, kind="zero" if k == 0 else "grid") for k in _steps(reach, step)]
    for k in _steps(reach, step):
        if k % 2 == 0:
            body.append(text(x(k * step), bottom + 16, change(found.measure, k * step) if k else "0", anchor="middle"))
    y = 8.0
    for name, rows in groups:
        body.append(text(0, y + 20, words.shorten(name, 60), kind="axis"))
        y += HEAD
        for row in rows:
            body += _line(found.measure, row, x, y)
            y += ROW
    label = f"Difference in {called(found.measure)}, a minus b, mean and 95 % interval"
    body.append(text((BEGIN + END) / 2, bottom + 34, label, kind="axis", anchor="middle"))
    spoken = "; ".join(f"{r.condition}, {r.a} minus {r.b}: {change(found.measure, r.difference)}, {r.verdict}" for r in found.rows)
    return svg(WIDE, bottom + 42, f"{label}: {spoken}", body)


def _steps(reach: float, step: float) -> range:
    most = round(reach / step)
    return range(-most, most + 1)


def _line(measure: str, row: Compared, x: Callable[[float], float], y: float) -> list[str]:
    middle = y + ROW / 2
    first = row.verdict == f"{row.a} better"
    colour = GREY if row.verdict == "not separable" else BETTER if first else WORSE
    low, high = (row.difference if math.isnan(v) else v for v in (row.ci_low, row.ci_high))
    name = words.shorten(f"{words.shorten(row.a, 17)} − {words.shorten(row.b, 17)}", 38)
    hover = f"{row.a} minus {row.b}: {change(measure, row.difference)} ({span(measure, row)}), p {words.p_value(row.p_holm)}"
    return [
        text(BEGIN - 12, middle + 4, name, kind="lab", anchor="end", colour=INK),
        f"<g><title>{Markup.escape(hover)}</title>"
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{colour}" stroke-width="2.2"/>'
        f'<circle cx="{x(row.difference):.1f}" cy="{middle:.1f}" r="4.2" fill="{colour}"/></g>',
        text(END + 14, middle + 4, words.shorten(row.verdict, 26), kind="lab", colour=colour),
    ]
