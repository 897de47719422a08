"""The result of an evaluation in two or three plain sentences."""

from __future__ import annotations

from monai_advdef import stats
from monai_advdef.report import words
from monai_advdef.report.scope import Scope


def finding(scope: Scope) -> str:
    """The result in two or three plain sentences."""
    rows = scope.headline_rows
    if not len(rows) or not (rows["defense"] == "none").any() or not (scope.clean["defense"] == "none").any():
        return ""
    table = stats.headline(rows).set_index("defense")
    clean = words.fraction(stats.per_case(scope.clean[scope.clean["defense"] == "none"])["value"].mean())
    name = scope.metric_name
    told = [f"Without a defence, clean {name} is {clean} and {name} under attack {words.fraction(table['headline']['none'])}"]
    noise = scope.noise(scope.eps)
    noise = noise[noise["defense"] == "none"]
    if len(noise):
        told.append(f"; under random noise of the same size it is {words.fraction(stats.worst_case(noise)['value'].mean())}")
    told.append(".")
    known = table[table["adaptive"].notna() & (table.index != "none")]
    if len(known):
        best = known["headline"].idxmax()
        robust = words.fraction(known["headline"][best])
        told.append(f" The best defence, {best}, has a {name} under attack of {robust} against the stronger of the two attackers.")
        lost = known["oblivious"] - known["headline"]
        if lost.max() > 0.1:
            defence = lost.idxmax()
            oblivious, adaptive = (words.fraction(known[side][defence]) for side in ("oblivious", "adaptive"))
            told.append(f" {defence} has {oblivious} against an attacker who does not know it, but {adaptive} against one who does.")
    unknown = sorted(table.index[table["headline"].isna()])
    if unknown:
        told.append(f" Not assessed, as nobody who knows it has attacked it: {words.listing(unknown)}.")
    return "".join(told)
