"""Figures of a sweep: the score against the attack strength, for several networks and for pairs with and without NLCE, with the
strongest attack beside the paper's. PNG files for print; ``rows`` as in :mod:`monai_advdef.papers.study_rows`.

Source: He et al., "Non-Local Context Encoder", 2019, figures 4, 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from monai_advdef import stats
from monai_advdef.papers.nlcen.tables import NAMES, strongest
from monai_advdef.papers.study_rows import CLEAN, Pairs, per_image
from monai_advdef.report.figures import GREY, INK, spread
from monai_advdef.report.print_style import DASHED, LOOKS, Look, Path, printed

BANDS = 2
"""As many networks, the first ones, have their 95 % band drawn."""


def curves(rows: pd.DataFrame, path: Path, networks: Sequence[str], metric: str, reference: str) -> None:
    """One solid curve for each network under the ``reference`` attack, a dashed one with open markers under the strongest.

    The first two have a 95 % band (bootstrap over patients). Each curve is named at its right end.
    """
    looks = {name: LOOKS[i % len(LOOKS)] for i, name in enumerate(networks)}
    weak, strong = _means(rows, metric, reference, networks)
    drawn = [name for name in networks if name in weak]
    with printed(path, 5.5, 3.6) as figure:
        ax = figure.subplots()
        ends = [
            _network(ax, weak[name], strong.get(name), looks[name], band=i < BANDS, front=len(drawn) - i)
            for i, name in enumerate(drawn)
        ]
        _axes(ax, step=4)
        ax.set_xlabel("ε, grey levels")
        ax.set_ylabel(f"mean {NAMES[metric]}")
        _names(ax, drawn, ends, [looks[name] for name in drawn])
        _key(figure, reference, bool(strong))


def pairs(rows: pd.DataFrame, path: Path, pairs: Pairs, reference: str) -> None:
    """DIC of each pair of networks in a panel of its own, as in :func:`curves`; bands for both."""
    width = min(3, len(pairs))
    height = -(-len(pairs) // width)
    weak, strong = _means(rows, "dice", reference, sorted({name for pair in pairs for name in pair}))
    with printed(path, max(0.45 + 2.05 * width, 4.4), 0.45 + 2.15 * height) as figure:
        axes = figure.subplots(height, width, sharex=True, sharey=True, squeeze=False)
        for i, (ax, pair) in enumerate(zip(axes.flat, pairs)):
            for j, name in enumerate(pair):
                _network(ax, weak[name], strong.get(name), LOOKS[j], band=True, front=2 - j)
            _axes(ax, step=8)
            lowest = i + width >= len(pairs)
            ax.tick_params(labelbottom=lowest)
            ax.set_xlabel("ε, grey levels" if lowest else "")
            ax.set_ylabel("" if i % width else "mean DIC")
            handles = [Line2D([], [], color=c, marker=m, markersize=3.5, linewidth=1.3) for c, m in LOOKS[:2]]
            above = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.99), "borderaxespad": 0, "borderpad": 0.2}
            ax.legend(handles, pair, frameon=False, handlelength=2, labelspacing=0.25, **above)
        for ax in axes.flat[len(pairs) :]:
            ax.set_visible(False)
        _key(figure, reference, bool(strong))


def _means(
    rows: pd.DataFrame, metric: str, reference: str, networks: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """By network, a table of mean and interval over eps: clean and under the reference attack; under the strongest attack."""
    rows = rows[rows["network"].isin(networks)]
    images = per_image(rows, metric)
    weak = images[images["attack"].isin([CLEAN, reference])].drop(columns="attack")
    return _summaries(weak), _summaries(strongest(rows, metric, reference))


def _summaries(images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    table = stats.summarize(images, ["network", "eps"])
    return {str(name): group for name, group in table.groupby("network")}


def _network(
    ax: Axes, weak: pd.DataFrame, strong: pd.DataFrame | None, look: Look, *, band: bool, front: int
) -> tuple[float, float]:
    """Draw one network, the first in front. Returns where its solid curve ends."""
    style: Any = {"color": look.colour, "marker": look.marker, "zorder": 2 + 0.01 * front, "clip_on": False}
    if band:
        ax.fill_between(weak["eps"], weak["ci_low"], weak["ci_high"], color=look.colour, alpha=0.13, linewidth=0)
    ax.plot(weak["eps"], weak["mean"], linewidth=1.3, markersize=3.4, markeredgecolor="white", markeredgewidth=0.25, **style)
    if strong is not None:
        open_: Any = {"markerfacecolor": "white", "markersize": 4, "markeredgewidth": 0.9}
        ax.plot(strong["eps"], strong["mean"], linewidth=1.0, linestyle=DASHED, **open_, **style)
    return float(weak["eps"].iloc[-1]), float(weak["mean"].iloc[-1])


def _axes(ax: Axes, step: int) -> None:
    """0 to 1 upwards, light rules, strengths from 0 on."""
    ax.set_ylim(0, 1)
    last = max(float(np.max(np.asarray(line.get_xdata()))) for line in ax.get_lines())
    ax.xaxis.set_major_locator(MultipleLocator(step) if last >= 2 * step else MaxNLocator(4))
    ax.set_xlim(-0.012 * last, 1.012 * last)
    ax.grid(axis="y", color="#e4e7ea", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _names(ax: Axes, names: Sequence[str], ends: Sequence[tuple[float, float]], looks: Sequence[Look]) -> None:
    """Each name to the right of its curve's end, with a line that leads to it where names had to move apart."""
    places = spread([y for _, y in ends], 0.052, 0.02, 0.99)
    low, high = ax.get_xlim()
    for name, (x, y), place, look in zip(names, ends, places, looks):
        there = [x + share * (high - low) for share in (0.012, 0.045, 0.06)]
        ax.plot(there, [y, place, place], color=look.colour, linewidth=0.7, clip_on=False, scalex=False, label="_lead")
        ax.plot(there[-1], place, look.marker, color=look.colour, markersize=3.4, clip_on=False, scalex=False, label="_lead")
        ax.text(there[-1] + 0.015 * (high - low), place, name, va="center", fontsize=7, color=INK)


def _key(figure: Figure, reference: str, strong: bool) -> None:
    """What solid and dashed curves are, below the figure."""
    handles = [Line2D([], [], color=GREY, linewidth=1.3, marker="o", markersize=3, label=reference)]
    if strong:
        open_: Any = {"marker": "o", "markerfacecolor": "white", "markersize": 4}
        told = "strongest attack: per image the lowest of all run"
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=DASHED, label=told, **open_))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=7, handlelength=3)
