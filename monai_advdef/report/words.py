"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math
from typing import Any

from monai_advdef import stats

BY_CHANNEL = " by channel "
"""In a unit: what follows are the budgets of the channels."""
IN_L2 = " in L2"
"""In a unit: eps is the Euclidean length of the whole change, and not what each voxel may change by."""
OF_RUN = " (run "
"""In the name of an attack: what follows tells one of several runs that disagree."""
WORST = "worst of "
"""In the name of an attack: what follows is the suite of which it is the worst case."""


def fraction(value: float | None, digits: int = 3) -> str:
    """``.920``, ``1.000``, ``−.019``; a dash where there is no value."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{abs(value):.{digits}f}".removeprefix("0")
    return f"−{text}" if value < 0 and float(text) != 0 else text


def gain(value: float, digits: int = 3) -> str:
    """A difference with its sign: ``+.012``, ``−.001``, ``.000``."""
    text = fraction(value, digits)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def interval(low: float, high: float) -> str:
    """``.90–.94``, or nothing where there is no interval."""
    return "" if math.isnan(low) else f"{fraction(low, 2)}–{fraction(high, 2)}"


def mean(summary: Any) -> str:
    """``.920 (.90–.94)`` of a summary with ``mean``, ``ci_low`` and ``ci_high``; the mean alone where there is no interval."""
    between = interval(summary["ci_low"], summary["ci_high"])
    return fraction(summary["mean"]) + (f" ({between})" if between else "")


def p_value(p: float | None) -> str:
    """``<.001``, ``.034``, ``1``; a dash where there is no test."""
    if p is None or math.isnan(p):
        return "–"
    return "<.001" if p < 0.001 else "1" if p > 0.9995 else fraction(p)


def defence(name: str) -> str:
    """The defence's name; the records call its absence ``"none"``."""
    return "no defence" if name == "none" else name


def attack(row: Any) -> str:
    """Name of the attack of a row of records: ``PGD-10``, ``PGD-10 dice ×5`` (restarts), ``uniform noise``, ``no attack``; the worst
    case of a suite by the suite's name, ``standard (worst case)``, and a member behind a defence ``PGD-10 dice through smooth .7``.
    """
    name, mark, run = row["attack"].partition(OF_RUN)
    if name.startswith(WORST):
        return f"{name.removeprefix(WORST)} (worst case){mark}{run}"
    name, way = stats.way(name)
    if name == "none":
        return "no attack"
    if name.startswith("noise"):
        return f"{name.removeprefix('noise').strip('-_ ') or 'random'} noise{mark}{run}"
    steps = f"-{row['steps']}" if row["steps"] > 1 else ""
    kind, space, rest = name.partition(" ")
    return kind + steps + space + rest + (f" ×{row['restarts']}" if row["restarts"] > 1 else "") + way + mark + run


def size(eps: float, unit: str) -> str:
    """``8 grey levels``, ``0.2 σ``, ``[8, 0, 0] grey levels`` (by channel), ``40 grey levels in L2``, ``no bound``."""
    if math.isinf(eps):
        return "no bound"
    if BY_CHANNEL in unit:
        unit, _, budgets = unit.partition(BY_CHANNEL)
        return f"{budgets} {units(unit)}"
    return f"{eps:g} {unit if eps == 1 and unit.endswith('level') else units(unit)}".strip()


def units(unit: str) -> str:
    """The unit's name in the plural: ``grey levels``, ``HU``, ``σ``."""
    unit, length, _ = unit.partition(BY_CHANNEL)[0].partition(IN_L2)
    return ("σ" if unit == "sigma" else f"{unit}s" if unit.endswith("level") else unit) + length


def bound(eps: float, unit: str, norm: str) -> str:
    """What the attacker may do, as the end of a sentence; the size alone is in bold by the caller."""
    amount = f"{eps:g} of 255 grey levels" if unit == "grey level" else size(eps, unit)
    return amount if norm == "linf" else f"{amount} (Euclidean length of the whole change)"


def title(task: str) -> str:
    """``skin_lesion_segmentation`` as ``Skin lesion segmentation``."""
    words = task.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def evaluation(task: str, model: str, kind: str = "") -> str:
    """What was evaluated, as a title: ``Skin lesion segmentation, UNet``; by the model and its kind where the task has no name."""
    known = title(task) if task != "segmentation" else title(model)
    of = model if task != "segmentation" else kind
    return f"{known}, {of}" if of else known


def shorten(text: str, length: int) -> str:
    """The text, cut at ``length`` characters with an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def short_hash(digest: str) -> str:
    """``4f1c…9a`` from a long hexadecimal digest."""
    return digest if len(digest) <= 8 else f"{digest[:4]}…{digest[-2:]}"


def listing(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def count(n: int, noun: str) -> str:
    """``1 image``, ``12 images``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
