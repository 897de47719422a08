"""Tables in the style of a paper: attacks as rows, defences as columns, the paper's own figures beside ours. Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from monai_advdef import stats

Line = tuple[str, Mapping[str, str]]
"""Name of a line of a table, and by column what its cells say."""

LOWER = "strongest"
OBLIVIOUS = "oblivious"
NOT_ASSESSED = "not assessed"
NOT_ASSESSED_NOTE = "not assessed: attacked only by one who does not know this defence, which says nothing of one who does."


def pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per column, attack, attacker, metric, class and case: the mean over networks.

    Args:
        rows: records with the added columns ``column`` (a defence), ``attack_row`` (an attack), ``attacker`` (``"adaptive"``,
            ``"adaptive, <how>"``, ``"oblivious"`` or ``""``) and ``network`` (one of several trained alike).
    """
    unit = ["column", "attack_row", "attacker", "metric", "class", "case", "patient"]
    return rows.groupby(unit, sort=False)["value"].mean().reset_index()


def attackers(rows: pd.DataFrame) -> list[str]:
    """The attackers of some rows: those who know the defence first, the oblivious one last."""
    return sorted(set(rows["attacker"]) - {""}, key=lambda name: (name == OBLIVIOUS, name))


def known(rows: pd.DataFrame) -> set[str]:
    """The columns that an attacker who knows the defence attacked."""
    return set(rows[rows["attacker"] != OBLIVIOUS]["column"])


def lower(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Per column, network and case, the rows of one attack by whichever attacker leaves the lowest mean over classes, marked as
    attacker ``LOWER``: the worst case of each case, which is lower than the attacker that is worst on average."""
    unit = ["column", "network", "case"]
    scores = rows[rows["metric"] == metric].groupby([*unit, "attacker"])["value"].mean().reset_index()
    best = scores.sort_values(["value", "attacker"], kind="stable").drop_duplicates(unit)[[*unit, "attacker"]]
    return rows.merge(best, on=[*unit, "attacker"]).assign(attacker=LOWER)


def per_cent(rows: pd.DataFrame) -> str:
    """``mean ± std`` over cases, in per cent, of one cell's rows; the range of the mean over networks where there are several."""
    cases = stats.summarize(pooled(rows)[["case", "patient", "class", "value"]], resamples=1).iloc[0]
    told = f"{100 * cases['mean']:.1f} ± {100 * cases['std']:.1f}"
    means = rows.groupby("network")["value"].mean()
    return told if len(means) == 1 else f"{told} ({100 * means.min():.1f}–{100 * means.max():.1f})"


def attack_lines(
    rows: pd.DataFrame, columns: Sequence[str], metric: str, text: Callable[[pd.DataFrame], str] = per_cent
) -> list[Line]:
    """The lines of one attack: per column the worst case over all attackers first, then each; one line where only one was run. A
    column that nobody who knows its defence has attacked is not assessed: it has no number in the first line."""
    sides = attackers(rows)
    shown = {f"**{LOWER} of all attackers**": lower(rows, metric)} if len(sides) > 1 else {}
    shown |= {name: rows[rows["attacker"] == name] for name in sides}
    lines: list[Line] = []
    for name, part in shown.items():
        part = part[part["metric"] == metric]
        found = {c: text(part[part["column"] == c]) for c in columns if (part["column"] == c).any()}
        if name.startswith("**"):
            found = {c: f"**{t}**" if c in known(rows) else NOT_ASSESSED for c, t in found.items()}
        lines.append((name, found))
    return lines


def markdown(head: str, columns: Sequence[str], lines: Sequence[Line]) -> str:
    """A Markdown table; a text that is missing is a dash."""
    table = [f"| {head} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    table += [f"| {name} | {' | '.join(texts.get(c, '–') for c in columns)} |" for name, texts in lines]
    return "\n".join(table) + "\n"


def paired(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Paired comparisons of columns of one metric and attack: difference in points with its 95 % interval (bootstrap over patients)
    and the Wilcoxon signed-rank p, Holm-corrected over the pairs. ``rows`` as :func:`pooled` takes them."""
    cases = pooled(rows)
    found = []
    for a, b in pairs:
        one, two = (cases[cases["column"] == c][["case", "patient", "class", "value"]] for c in (a, b))
        if len(one) and len(two):
            found.append((a, b, stats.compare(one, two)))
    adjusted = stats.holm([c.p for _, _, c in found])
    lines = ["| comparison | n | difference, points [95 %] | p (Holm) |", "|---|---:|---|---|"]
    for (a, b, c), p in zip(found, adjusted):
        interval = f"{100 * c.difference:+.1f} [{100 * c.ci_low:+.1f}, {100 * c.ci_high:+.1f}]"
        lines.append(f"| {a} − {b} | {c.n} | {interval} | {p:.2g} |")
    return "\n".join(lines) + "\n"
