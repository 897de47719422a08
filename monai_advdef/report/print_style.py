"""The style of figures for print: PNG files drawn with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def printed(path: Path, width: float, height: float, pad: float = 0.04) -> Iterator[Figure]:
    """A figure of this many inches in this style, saved on leaving."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=0.01, hspace=0.01))
        yield figure
        figure.savefig(path, dpi=DPI, facecolor="white")
