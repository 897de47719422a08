"""The boxes under the title: what the records themselves say about whether the numbers can be trusted.

Each check returns None where the records cannot answer it; a box is never shown on trust.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope, is_noise

LADDER = [  # untargeted attacks, whatever they raise, from the weakest
    re.compile(r"noise.*"),
    re.compile(r"FGSM( \w+)?"),
    re.compile(r"(PGD|Auto-PGD|SegPGD|CosPGD)( momentum [\d.]+)?( \w+)?"),
]


class Verdict(NamedTuple):
    """``status`` is ``ok``, ``note`` (worth knowing) or ``suspect`` (the headline may be wrong)."""

    name: str
    status: str
    text: str


def verdicts(scope: Scope) -> list[Verdict]:
    """The verdicts the records can answer, in the order in which a doubting reader asks."""
    return [found for check in (_adaptive, _size, _noise, _order, _curve, _recorded) if (found := check(scope)) is not None]


def _adaptive(scope: Scope) -> Verdict | None:
    """Is every defence also attacked by someone who knows it, and is that attacker at least as strong?"""
    rows = scope.rows[["attack", "defense", "adaptive"]].drop_duplicates()
    rows = rows[(rows["attack"] != "none") & ~is_noise(rows) & (rows["defense"] != "none")]
    if not len(rows):
        return None
    known = rows.groupby("defense")["adaptive"].any()
    if not known.all():
        return Verdict("Adaptive", "suspect", f"nobody who knows it has attacked {words.listing(sorted(known.index[~known]))}")
    if len(scope.headline_rows):
        table = stats.headline(scope.headline_rows).set_index("defense")
        weaker = sorted(table.index[table["adaptive"] > table["oblivious"] + 0.01])
        if weaker:
            return Verdict("Adaptive", "suspect", f"knowing the defence makes the attack weaker: {words.listing(weaker)}")
    return Verdict("Adaptive", "ok", "every defence attacked by someone who knows it")


def _size(scope: Scope) -> Verdict | None:
    """Did the measured change stay within what was allowed?"""
    measured = scope.norm if scope.norm in ("linf", "l2") else None
    if measured is None:
        return None
    columns = [name for name in ("case", "eps", measured, "budget") if name in scope.rows]
    rows = pd.concat([scope.attacked()[columns], scope.noise()[columns]])
    if "budget" in rows:  # in per cent of each image's range: the change was measured in image units
        rows = rows[~rows["budget"].str.endswith("%")]
    if not len(rows):
        return None
    over = rows[rows[measured] > rows["eps"] * (1 + 1e-6)]
    if len(over):
        worst = over.loc[(over[measured] / over["eps"]).idxmax()]
        return Verdict("Size", "suspect", f"case {worst['case']} was changed by {worst[measured]:.6g}, allowed {worst['eps']:g}")
    return Verdict("Size", "ok", "no image was changed by more than was allowed, as measured")


def _noise(scope: Scope) -> Verdict | None:
    """Does random noise of the same size already lower the score?"""
    noise, clean = scope.noise(scope.eps), scope.clean
    common = sorted(set(noise["defense"]) & set(clean["defense"]))
    if scope.eps is None or not common:
        return None
    lowered = {}
    for name in common:
        after = stats.worst_case(noise[noise["defense"] == name])
        lowered[name] = stats.compare(clean[clean["defense"] == name], after, resamples=1).difference
    name = max(lowered, key=lambda key: lowered[key])
    text = f"random noise of the same size lowers the score by {words.fraction(lowered[name])}"
    where = "" if name == "none" else f" with {name}"
    return Verdict("Noise", "ok" if lowered[name] <= 0.01 else "note", text + where + ("" if lowered[name] <= 0.01 else " already"))


class _Rung(NamedTuple):
    """An attack of the ladder: ``rank`` is noise, one step or many. Within a rank only what differs in effort alone is compared."""

    rank: int
    attack: str
    effort: tuple[int, int]  # steps, restarts
    mean: float
    name: str

    def below(self, other: _Rung) -> bool:
        """Whether the other must be at least as strong."""
        return self.rank < other.rank or (self.rank, self.attack) == (other.rank, other.attack) and self.effort < other.effort


def _order(scope: Scope) -> Verdict | None:
    """Is a stronger attack stronger: noise, one step, then many, each of them by its steps?"""
    if scope.eps is None:
        return None
    rows = pd.concat([scope.noise(scope.eps), scope.headline_rows])
    rows = rows[rows["defense"] == "none"]
    ladder = []
    for row in stats.summarize(rows, list(stats.CELL), resamples=1).to_dict("records") if len(rows) else ():
        rank = next((i for i, rung in enumerate(LADDER) if rung.fullmatch(row["attack"])), None)
        if rank is not None:
            ladder.append(_Rung(rank, row["attack"], (row["steps"], row["restarts"]), row["mean"], words.attack(row)))
    ladder.sort()
    if len({rung.rank for rung in ladder}) < 2:
        return None
    broken = [(low.mean - high.mean, high, low) for high in ladder for low in ladder if high.below(low)]
    worst, weaker, stronger = max(broken, key=lambda found: found[0])
    if worst > 0.005:
        high, low = words.fraction(stronger.mean), words.fraction(weaker.mean)
        return Verdict("Order", "suspect", f"score {high} under {stronger.name}, higher than under {weaker.name} ({low})")
    return Verdict("Order", "ok", " > ".join(f"{rung.name} {words.fraction(rung.mean, 2)}" for rung in ladder))


def _curve(scope: Scope) -> Verdict | None:
    """Does the score fall as the attack may change more?"""
    rows = scope.attacked()
    sizes = sorted(rows["eps"].unique())
    if len(sizes) < 2:
        return None
    for adaptive in (True, False):
        side = stats.attacker(rows, adaptive)
        means = (
            stats.worst_case(side, ["defense", "eps"]).groupby(["defense", "eps"])["value"].mean()
            if len(side)
            else pd.Series(dtype=float)
        )
        for name, curve in means.groupby(level="defense"):
            rises = np.flatnonzero(np.diff(curve.to_numpy()) > 0.01)
            if len(rises):
                low, high = (curve.index[rises[0] + i][1] for i in (0, 1))
                return Verdict("Curve", "suspect", f"{words.defence(str(name))}: the score rises from ε = {low:g} to {high:g}")
    return Verdict("Curve", "ok", f"the more may change, the lower the score, from ε = {sizes[0]:g} to {sizes[-1]:g}")


def _recorded(scope: Scope) -> Verdict:
    """Are all cells complete and on the same images?"""
    if scope.unfinished:
        return Verdict("Recorded", "suspect", f"{words.count(len(scope.unfinished), 'run')} not finished and left out")
    if scope.left_out:
        return Verdict("Recorded", "suspect", f"left out, as they lack some of the images: {'; '.join(scope.left_out[:3])}")
    runs, images = scope.every["fingerprint"].nunique(), scope.every["case"].nunique()
    return Verdict("Recorded", "ok", f"{words.count(runs, 'run')}, each finished and on the same {words.count(images, 'image')}")
