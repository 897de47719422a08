"""The style of figures for print: PNG files drawn with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from monai_advdef.report.figures import GREY, INK

DPI = 200
STYLE: Any = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "hatch.linewidth": 0.5,
}
Path = str | os.PathLike[str]


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c", "#8a6d00")
"""The palette of Okabe and Ito, without its yellow, which is lost on white; a grey and an olive follow."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h")
DASHED: Any = (0, (3.5, 1.6))


class Look(NamedTuple):
    """How one network is drawn."""

    colour: str
    marker: str


LOOKS = [Look(*look) for look in zip(COLOURS, MARKERS)]


@contextmanager
def printed(path: Path, width: float, height: float, pad: float = 0.04) -> Iterator[Figure]:
    """A figure of this many inches in this style, saved on leaving."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=0.01, hspace=0.01))
        yield figure
        figure.savefig(path, dpi=DPI, facecolor="white")
