"""Figures of paper 000's search and of its figures 1 and 2, drawn with matplotlib as PNG files for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from monai_advdef.report.figures import GREY, INK
from monai_advdef.report.print_style import Path, printed

BAND_COLOURS = ("#0072b2", "#56b4e9", "#e6e6e6")
"""PD, AC, GD; with the two below from the palette of Okabe and Ito, told apart by colour-blind readers."""
TRUTH, PREDICTION, TARGET, MARK = "#ffffff", "#00e5ff", "#ff9f1c", "#d55e00"
DASHED: Any = (0, (4, 1.5))
DOTTED: Any = (0, (1.2, 1.2))


def heat_map(rows: pd.DataFrame, path: Path, title: str, limit: float) -> None:
    """Adversarial IoU (upper row) and benign loss (lower row) over QS1 and QS2, a panel for each QS3.

    Args:
        rows: the rows of a search (see :class:`monai_advdef.papers.frequency_refinement.search_result.SearchResult`).
        path: PNG file.
        title: printed above.
        limit: the benign loss allowed, in points.
    """
    thirds = sorted(rows["qs3"].unique())
    first, second = sorted(rows["qs1"].unique()), sorted(rows["qs2"].unique())
    cell = 0.36
    width, height = 1.1 + len(thirds) * (0.3 + cell * len(second)), 0.95 + 2 * (0.26 + cell * len(first))
    kinds = (("adversarial_mean", "adversarial IoU, %", "viridis"), ("benign_loss", "benign loss, IoU points", "cividis_r"))
    with printed(path, max(width, 6.4), height) as figure:
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(2, len(thirds), squeeze=False, sharex=True, sharey=True)
        for line, (column, label, colours) in zip(axes, kinds):
            low, high = rows[column].min(), rows[column].max()
            for ax, third in zip(line, thirds):
                part = rows[rows["qs3"] == third]
                grid = part.pivot(index="qs1", columns="qs2", values=column).reindex(index=first, columns=second).to_numpy()
                drawn = ax.imshow(grid, cmap=colours, vmin=low, vmax=max(high, low + 1e-6), origin="lower")
                _numbers(ax, grid, drawn, "%.1f" if column == "adversarial_mean" else "%.2f")
                _marks(ax, part, first, second)
                ax.set_title(f"QS3 = {third}")
                ax.set_xticks(range(len(second)), second)
                ax.set_yticks(range(len(first)), first)
            figure.colorbar(drawn, ax=list(line), label=label, fraction=0.03, aspect=18)
        for ax in axes[-1]:
            ax.set_xlabel("QS2")
        for ax in axes[:, 0]:
            ax.set_ylabel("QS1")
        refused = f"  ·  hatched: loses more than {limit:.2f} points" if not rows["admissible"].all() else ""
        figure.supxlabel(f"thick frame: chosen  ·  dashed frame: the paper's settings{refused}", fontsize=7.5, color=GREY)


def _numbers(ax: Axes, values: np.ndarray, drawn: Any, form: str) -> None:
    """Every value in its cell, in white on dark colours and in ink on bright ones."""
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            dark = np.dot(drawn.cmap(drawn.norm(value))[:3], (0.299, 0.587, 0.114)) < 0.5
            ax.text(j, i, form % value, ha="center", va="center", fontsize=6, color="white" if dark else INK)


def _marks(ax: Axes, rows: pd.DataFrame, first: Sequence[int], second: Sequence[int]) -> None:
    for row in rows.to_dict("records"):
        corner = (second.index(row["qs2"]) - 0.5, first.index(row["qs1"]) - 0.5)
        if not row["admissible"]:
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="white", linewidth=0))
        if "paper" in row["note"]:
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1.2, linestyle=(0, (3, 2)), clip_on=False))
        if row["best"]:
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=MARK, linewidth=2.2, zorder=4, clip_on=False))


def bands_figure(std: np.ndarray, ranks: np.ndarray, groups: np.ndarray, path: Path) -> None:
    """Standard deviation and rank of the 64 bands.

    Args:
        std, ranks, groups: 8x8, rows down the picture; groups are 0 (PD), 1 (AC) and 2 (GD).
        path: PNG file.
    """
    with printed(path, 6.4, 3.3) as figure:
        left, right = figure.subplots(1, 2)
        bands(figure, left, std, "standard deviation, grey levels", log=True)
        left.set_title("(a) spread of the benign training images")
        colours = np.array([to_rgb(c) for c in BAND_COLOURS])[groups]
        right.imshow(colours)
        for (v, u), rank in np.ndenumerate(ranks):
            right.text(u, v, rank, ha="center", va="center", fontsize=6, color="white" if groups[v, u] == 0 else INK)
        right.set_title("(b) rank: PD 1–3, AC 4–15, GD 16–64")
        _band_axes(right)


def bands(figure: Figure, ax: Axes, values: np.ndarray, label: str, *, log: bool = False, signed: bool = False) -> None:
    """A map of 8x8 band values with the numbers in it and its colour bar; signed values around white."""
    if signed:
        reach = max(float(np.abs(values).max()), 1e-6)
        drawn = ax.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach)
    elif log:
        positive = values[values > 0]
        drawn = ax.imshow(np.maximum(values, positive.min()), cmap="viridis", norm=LogNorm(positive.min(), positive.max()))
    else:
        drawn = ax.imshow(values, cmap="viridis", vmin=0)
    for (v, u), value in np.ndenumerate(values):
        dark = np.dot(drawn.cmap(drawn.norm(value))[:3], (0.299, 0.587, 0.114)) < 0.5
        ax.text(u, v, _short(value), ha="center", va="center", fontsize=5, color="white" if dark else INK)
    _band_axes(ax)
    figure.colorbar(drawn, ax=ax, label=label, fraction=0.046)


def _short(value: float) -> str:
    """Three characters or so."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}".replace("0.", ".")


def _band_axes(ax: Axes) -> None:
    ax.set_xticks(range(8))
    ax.set_yticks(range(8))
    ax.set_xlabel("half waves across")
    ax.set_ylabel("half waves down")


def perturbation_figure(
    case: Mapping[str, Any], mean: np.ndarray, std: np.ndarray, shares: Mapping[str, Mapping[str, float]], path: Path, title: str
) -> None:
    """Figure 1: one perturbation, and the statistics of all in the 64 bands.

    Args:
        case: name, clean and adversarial (H, W[, 3]) in grey levels.
        mean, std: 8x8 in grey levels, rows down the picture.
        shares: energy shares 0..1 by kind (``"colour"``, ``"band"``) and name.
        path: PNG file.
        title: printed above.
    """
    difference = case["adversarial"] - case["clean"]
    reach = float(f"{max(np.percentile(np.abs(difference), 99.5), 1):.1g}")
    with printed(path, 7.2, 4.5) as figure:
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(2, 3)
        for ax, image, said in zip(axes[0], (case["clean"], case["adversarial"]), ("clean", "attacked")):
            _image(ax, image)
            ax.set_title(f"{case['name']}, {said}")
        shown = np.clip(127.5 + 127.5 * difference / reach, 0, 255)
        _image(axes[0, 2], shown)
        axes[0, 2].set_title(f"(a) difference, ×{127.5 / reach:.3g}")
        bar = figure.colorbar(
            matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(-reach, reach), "gray"), ax=axes[0, 2], fraction=0.046
        )
        bar.set_label("grey levels, each channel")
        bands(figure, axes[1, 0], mean, "grey levels", signed=True)
        axes[1, 0].set_title("(b) mean DCT coefficient")
        bands(figure, axes[1, 1], std, "grey levels", log=True)
        axes[1, 1].set_title("(c) standard deviation")
        _shares(axes[1, 2], shares)


def _shares(ax: Axes, shares: Mapping[str, Mapping[str, float]]) -> None:
    """One stacked bar for each kind of share, with names and percentages beside its parts."""
    colours = {"colour": ("#8c8c8c", "#cc79a7", "#d55e00"), "band": (BAND_COLOURS[0], BAND_COLOURS[1], "#c9c9c9")}
    for x, (kind, parts) in enumerate(shares.items()):
        below = 0.0
        for (name, share), colour in zip(parts.items(), colours[kind]):
            ax.bar(x, 100 * share, 0.42, bottom=100 * below, color=colour, edgecolor="white", linewidth=0.8)
            ax.text(x + 0.25, 100 * (below + share / 2), f"{name}\n{100 * share:.0f} %", va="center", fontsize=6.5)
            below += share
    ax.set_xticks(range(len(shares)), shares)
    ax.set_xlim(-0.4, len(shares) - 0.35)
    ax.set_ylim(0, 100)
    ax.set_ylabel("share of the energy, %")
    ax.set_title("(d) where the energy is")
    ax.set_box_aspect(1)
    ax.spines[["top", "right"]].set_visible(False)


def panels_figure(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path, title: str) -> None:
    """Figure 2: a panel for every image and defence, with the contours of truth, prediction and target and the IoU.

    Args:
        rows: ``label`` (text on the left), ``truth``, ``target`` (or None) class maps (H, W), and ``panels``: for every column the
            ``image`` (H, W[, 3]), the ``prediction`` (H, W) and the ``iou`` 0..1.
        columns: names of the defences.
        path: PNG file.
        title: printed above.
    """
    side = 1.32
    with printed(path, 0.45 + side * len(columns), 0.6 + (side + 0.03) * len(rows), pad=0.015) as figure:
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        for row, line in zip(rows, axes):
            line[0].set_ylabel(row["label"], fontsize=7)
            for ax, panel in zip(line, row["panels"]):
                _image(ax, panel["image"])
                if row["target"] is not None:
                    _contour(ax, row["target"], TARGET, DOTTED)
                _contour(ax, row["truth"], TRUTH, "solid")
                _contour(ax, panel["prediction"], PREDICTION, DASHED)
                score = f"{100 * panel['iou']:.1f}"
                said = ax.text(0.03, 0.04, score, transform=ax.transAxes, fontsize=8, color="white", weight="bold")
                said.set_path_effects([withStroke(linewidth=1.8, foreground="black")])
        for ax, name in zip(axes[0], columns):
            ax.set_title(name)
        kinds = [("truth", TRUTH, "solid"), ("prediction", PREDICTION, DASHED)]
        kinds += [("attacker's target", TARGET, DOTTED)] * any(row["target"] is not None for row in rows)
        handles = [Line2D([], [], color=c, linestyle=s, linewidth=1.5, label=n, path_effects=_halo(2.8)) for n, c, s in kinds]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7.5)


def _image(ax: Axes, pixels: np.ndarray) -> None:
    ax.imshow(np.clip(np.round(pixels), 0, 255).astype(np.uint8), cmap="gray", vmin=0, vmax=255)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _contour(ax: Axes, classes: np.ndarray, colour: str, style: Any) -> None:
    """The borders of every class of a class map (H, W), also along the edge of the picture."""
    height, width = classes.shape
    for value in np.unique(classes[classes > 0]):
        drawn = ax.contour(
            np.arange(-1, width + 1),
            np.arange(-1, height + 1),
            np.pad((classes == value).astype(float), 1),
            [0.5],
            colors=colour,
            linewidths=1.1,
            linestyles=[style],
        )
        drawn.set_path_effects(_halo(2.0))
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def _halo(width: float) -> list[Any]:
    return [withStroke(linewidth=width, foreground="#00000099")]
