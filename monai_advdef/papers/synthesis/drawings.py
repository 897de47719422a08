"""Figures of a study of deformations and intensity changes: Dice over xi, and what was done to single images. PNG files for print.

Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019, figure 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from monai_advdef.papers.synthesis.scores import FIELDS, GENERATOR, SUCCESS, Line, of_kind
from monai_advdef.report.figures import GREY
from monai_advdef.report.print_style import DASHED, LOOKS, Path, printed

KINDS = {GENERATOR: "trained generator", FIELDS: "optimised for each image"}
WARP_LINES = 17
"""Grid lines of a drawn displacement field along the longer side of the picture."""


class Panel(NamedTuple):
    """One attack on one image, everything (H, W) in the order of a picture.

    ``displacement`` (2, H, W) is in voxels along the rows and columns, ``intensity`` in image units; ``name`` is that of the attack.
    """

    name: str
    clean: np.ndarray
    attacked: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    clean_prediction: np.ndarray
    displacement: np.ndarray
    intensity: np.ndarray


def curves(found: Sequence[Line], path: Path) -> None:
    """Dice of every organ over xi, from 0 (clean) on, solid against the labels as they are, dashed against the warped ones, in a
    panel for the generators and one for the field attacks; attacks by both fields only."""
    groups = {kind: made for kind in KINDS if (made := of_kind(found, kind, "both"))}
    if not groups:
        return
    organs = list(found[0].organs)
    with printed(path, 0.6 + 2.7 * len(groups), 2.9) as figure:
        axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for ax, (kind, made) in zip(axes, groups.items()):
            for organ, look in zip(organs, LOOKS):
                for against, style in (("dice", "solid"), ("warped", DASHED)):
                    _curve(ax, [line for line in made if organ in line.organs], organ, against, look, style)
                line = (1 - SUCCESS) * made[0].organs[organ]["clean"] if organ in made[0].organs else np.nan
                ax.axhline(line, color=look.colour, linewidth=0.5, alpha=0.6, zorder=1)
            ax.set_title(KINDS[kind])
            ax.set_ylim(0, 1)
            ax.set_xlim(left=0)
            ax.set_xlabel("ξ, nats")
            ax.grid(axis="y", color="#e4e7ea", linewidth=0.5)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("Dice")
        handles = [Line2D([], [], color=c, marker=m, markersize=3.4, linewidth=1.3, label=o) for o, (c, m) in zip(organs, LOOKS)]
        handles += [Line2D([], [], color=GREY, linewidth=1.2, label="labels as they are")]
        handles += [Line2D([], [], color=GREY, linewidth=1.2, linestyle=DASHED, label="labels warped along")]
        handles += [Line2D([], [], color=GREY, linewidth=0.5, label=f"{100 * (1 - SUCCESS):.0f} % of clean")]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7, handlelength=2.6)


def panels(rows: Sequence[Panel], path: Path, title: str, organs: Sequence[str], unit: str, grey: tuple[float, float]) -> None:
    """A line for every attack on one image: clean with the labels, attacked with the predictions, the displacement, the intensity.

    Args:
        rows: of one image.
        path: PNG file.
        title: printed above.
        organs: names of the classes, from 1 on.
        unit: of the image, such as ``"HU"``.
        grey: what is black and what is white.
    """
    side = 1.75
    width, height = 0.55 + 4.3 * side, 0.75 + (side + 0.06) * len(rows) * rows[0].clean.shape[0] / max(rows[0].clean.shape)
    largest = max(float(np.abs(row.intensity).max()) for row in rows) or 1.0
    with printed(path, width, height, pad=0.015) as figure:
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(len(rows), 4, squeeze=False)
        for row, line in zip(rows, axes):
            line[0].set_ylabel(row.name, fontsize=7)
            _picture(line[0], row.clean, grey)
            _outlines(line[0], row.label, "solid")
            _outlines(line[0], row.clean_prediction, DASHED)
            _picture(line[1], row.attacked, grey)
            _outlines(line[1], row.label, "solid")
            _outlines(line[1], row.prediction, DASHED)
            _grid(line[2], row.displacement)
            drawn = line[3].imshow(row.intensity, cmap="RdBu_r", vmin=-largest, vmax=largest)
            for ax in line:
                ax.set_xticks([])
                ax.set_yticks([])
        figure.colorbar(drawn, ax=axes[:, 3], fraction=0.05, pad=0.02, label=unit)
        for ax, name in zip(axes[0], ("clean", "attacked", "displacement", "intensity field")):
            ax.set_title(name)
        kinds: list[tuple[str, Any]] = [("label", "solid"), ("prediction", DASHED)]
        handles = [Line2D([], [], color=look.colour, label=organ) for organ, look in zip(organs, LOOKS)]
        handles += [Line2D([], [], color=GREY, linestyle=s, label=n) for n, s in kinds]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=7.5)


def _curve(ax: Axes, made: Sequence[Line], organ: str, against: str, look: Any, style: Any) -> None:
    if not made:
        return
    x = [0.0, *(line.xi for line in made)]
    y = [made[0].organs[organ]["clean"], *(line.organs[organ][against] for line in made)]
    open_: Mapping[str, Any] = {"markerfacecolor": "white"} if against == "warped" else {}
    ax.plot(x, y, color=look.colour, marker=look.marker, markersize=3.4, linewidth=1.2, linestyle=style, clip_on=False, **open_)
    if against == "dice":
        low, high = ([y[0], *(line.organs[organ][f"{against}_{end}"] for line in made)] for end in ("low", "high"))
        ax.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)


def _picture(ax: Axes, pixels: np.ndarray, value_range: tuple[float, float]) -> None:
    ax.imshow(pixels, cmap="gray", vmin=value_range[0], vmax=value_range[1])


def _outlines(ax: Axes, classes: np.ndarray, style: Any) -> None:
    """The border of every class of a class map (H, W), a colour for each."""
    for value in np.unique(classes[classes > 0]):
        mask = (classes == value).astype(float)
        if 0 < mask.mean() < 1:
            drawn = ax.contour(mask, [0.5], colors=LOOKS[int(value) - 1].colour, linewidths=0.9, linestyles=[style])
            drawn.set_path_effects([withStroke(linewidth=1.6, foreground="#00000099")])


def _grid(ax: Axes, displacement: np.ndarray) -> None:
    """A regular grid as the image was warped: the point that is shown at p came from p + D(p)."""
    height, width = displacement.shape[1:]
    step = max(1, max(height, width) // (WARP_LINES - 1))
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    y, x = rows + displacement[0], columns + displacement[1]
    style: Any = {"color": "#0072b2", "linewidth": 0.5}
    for i in range(0, height, step):
        ax.plot(x[i], y[i], **style)
    for j in range(0, width, step):
        ax.plot(x[:, j], y[:, j], **style)
    length = float(np.hypot(*displacement).max())
    ax.text(
        0.03, 0.04, f"largest {length:.1f} px", transform=ax.transAxes, fontsize=6.5, bbox={"facecolor": "white", "linewidth": 0}
    )
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    ax.set_aspect("equal")
