"""What scores are called: measures with the side on which they are better, and units in the spellings that people use."""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd

from monai_advdef.errors import nearest

HIGHER = ("dice", "iou", "nsd", "component_recall", "component_precision", "network_dice", "region_dice", "stability")
LOWER = ("hd95_mm", "hd95_px", "region_hd95_mm")
NEARER = (
    *("volume_change_ml", "volume_change_percent", "volume_change_px", "volume_error_ml", "region_volume_error_ml"),
    *("area_change_mm2", "area_change_percent", "area_change_px"),
)
DROP = "drop"
"""Not recorded: the clean Dice minus that under attack, case by case."""
STABILITY = "stability"
"""The Dice with the model's own clean prediction, where there are no labels; recorded as ``dice``."""
OVERLAPS = ("dice", "iou", "network_dice", "region_dice", DROP)
"""What is called so of labels only; without them it is stability."""
OWN = "own prediction"
"""In the column ``reference`` of records: there were no labels."""
UNITS = {
    "HU": ("hu", "hounsfield", "hounsfield unit"),
    "grey level": ("grey level", "gray level", "greylevel", "graylevel", "grey", "gray", "level", "gl"),
    "sigma": ("sigma", "σ", "sd", "std", "standard deviation"),
    "%": ("%", "% of range", "% of the range", "% range", "percent", "per cent"),
}
INPUT = ", at the network's input"
AT_INPUT = re.compile(r"(, ?| )at( the)?( network(['’]?s)?)? input$", re.IGNORECASE)
SAME = 1e-5
"""Sizes are one where they differ by less than this share, which is what six printed digits tell."""


class Measure(NamedTuple):
    """``better`` is ``higher``, ``lower`` or ``nearer 0`` (a signed change, read without its sign); ``low`` and ``high`` are the
    least and the greatest value that it can have."""

    name: str
    better: str
    low: float
    high: float

    def oriented(self, values: pd.Series) -> pd.Series:
        """The values such that the lowest is the worst."""
        return values if self.better == "higher" else -values if self.better == "lower" else -values.abs()

    def restored(self, values: pd.Series) -> pd.Series:
        """What :meth:`oriented` made of values, as they are read."""
        return values if self.better == "higher" else -values


def measure(name: str) -> Measure:
    """The measure of this name.

    Raises:
        ValueError: it is not known; with the nearest that is.
    """
    if name in HIGHER:
        return Measure(name, "higher", 0.0, 1.0)
    if name == DROP:
        return Measure(name, "lower", -1.0, 1.0)
    if name in LOWER:
        return Measure(name, "lower", 0.0, float("inf"))
    if name in NEARER:
        return Measure(name, "nearer 0", 0.0, float("inf"))
    raise ValueError(f"no measure is called {name!r}; {nearest(name, (*HIGHER, DROP, *LOWER, *NEARER))}")


def unit_of(text: str) -> str:
    """The unit in one spelling: ``HU``, ``grey level``, ``sigma``, ``%``; another as it is, without spaces at its ends.

    Units at the network's input are others than those of the image, and stay so: ``HU, at the network's input``.
    """
    plain = re.sub(r"\s+", " ", text.strip())
    if found := AT_INPUT.search(plain):
        return unit_of(plain[: found.start()]) + INPUT
    small = plain.lower()
    for name, spellings in UNITS.items():
        if small in spellings or small.removesuffix("s") in spellings:
            return name
    return plain


def same_unit(a: str, b: str) -> bool:
    """Whether two spellings mean one unit."""
    return unit_of(a).lower() == unit_of(b).lower()


def recorded(name: str) -> str:
    """The metric in the records that a measure is read from."""
    return "dice" if name in (STABILITY, DROP) else name
