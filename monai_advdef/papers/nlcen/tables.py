"""Text of a sweep over networks, attacks and attack strengths, from records alone: Markdown tables and sentences.

``rows`` as in :mod:`monai_advdef.papers.study_rows`.

Source: He et al., "Non-Local Context Encoder", 2019, figures 4, 5, 7 and 8, and the stronger attacks that the paper does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from monai_advdef import stats
from monai_advdef.papers.study_rows import CLEAN, IMAGE, Pairs, per_image, tidy
from monai_advdef.report import words
from monai_advdef.report.paper_table import Line, markdown

TRANSFER = "transfer"
MASKING_GAP = 0.07
"""How much higher DIC may be under an attack than under a stronger one before masking is suspected: the project's own criterion."""
TRANSFER_GAP = 0.02
"""How much lower DIC must be under a transfer attack than under every white-box one, for it to be called stronger: our criterion."""
NAMES = {"dice": "DIC", "iou": "JSC"}


def strongest(rows: pd.DataFrame, metric: str, reference: str) -> pd.DataFrame:
    """Per image the lowest value over all attacks, where another attack than ``reference`` was run.

    Returns:
        Columns ``network, eps, case, patient, value``; the lowest is sought for each training, then averaged over trainings.

    Raises:
        ValueError: an attack was not run on all trainings of a network, or not on all images.
    """
    found = tidy(rows, metric)
    found = found[found["attack"] != CLEAN]
    tried = found[found["attack"] != reference][["network", "eps"]].drop_duplicates()
    found = found.merge(tried, on=["network", "eps"])
    for (network, eps), cell in found.groupby(["network", "eps"]):
        attacked = cell.groupby("attack")["seed"].nunique()
        if lacking := sorted(attacked.index[attacked < cell["seed"].nunique()]):
            raise ValueError(
                f"training: not every training of {network} was attacked by {', '.join(lacking)} at eps {eps:g}; "
                "run every attack on all trainings"
            )
    worst = stats.worst_case(found, ["network", "eps", "seed"])
    return worst.groupby(["network", "eps", *IMAGE])["value"].mean().reset_index()


def curve_table(rows: pd.DataFrame, networks: Sequence[str], attack: str, metric: str, title: str) -> str:
    """A row for every eps, clean first, a column for every network: mean ± std over images, Markdown.

    Where a network has several trainings, the range of their means follows in parentheses.
    """
    found = tidy(rows, metric)
    found = found[found["attack"].isin([CLEAN, attack]) & found["network"].isin(networks)]
    cells = dict(list(found.groupby(["attack", "eps", "network"])))
    sizes = sorted(found.loc[found["attack"] == attack, "eps"].unique())
    lines: list[Line] = []
    for kind, eps in [(CLEAN, 0.0), *((attack, eps) for eps in sizes)]:
        texts = {n: _mean_std(cells[kind, eps, n]) for n in networks if (kind, eps, n) in cells}
        lines.append((CLEAN if kind == CLEAN else f"{eps:g}", texts))
    return f"### {title}\n\n{_counted(found)}\n\n{markdown('ε', networks, lines)}"


def _mean_std(cell: pd.DataFrame) -> str:
    images = stats.per_case(cell)["value"]
    told = f"{words.fraction(images.mean())} ± {words.fraction(images.std(ddof=0))}"
    means = cell.groupby("seed")["value"].mean()
    return told if len(means) == 1 else f"{told} ({words.fraction(means.min())}–{words.fraction(means.max())})"


def _n(found: pd.DataFrame) -> str:
    return f"n = {words.count(found['case'].nunique(), 'image')} of {words.count(found['patient'].nunique(), 'patient')}"


def _counted(found: pd.DataFrame) -> str:
    """What the numbers of a table are means of."""
    trainings = found.groupby("network", sort=False)["seed"].nunique()
    if (trainings == 1).all():
        return f"{_n(found)}, one training of each network; mean ± standard deviation over the images."
    several = words.listing([f"{count} of {name}" for name, count in trainings.items()])
    return (
        f"{_n(found)}; trainings: {several}. Per image the mean over the trainings, then mean ± standard deviation over the images; "
        "in parentheses the range of the mean over the trainings."
    )


def strength_table(rows: pd.DataFrame, networks: Sequence[str], reference: str) -> str:
    """The paper's attack (``reference``) beside the stronger ones, in DIC, wherever one was run; zero gradients and a verdict."""
    images = per_image(rows[rows["network"].isin(networks)], "dice")
    means = images.groupby(["network", "eps", "attack"])["value"].mean()
    lowest = strongest(rows, "dice", reference).groupby(["network", "eps"])["value"].mean()
    zeros = _zero_gradients(rows)
    others = [a for a in rows["attack_row"].unique() if a not in (CLEAN, reference)]
    columns = ["ε", reference, *others, "worst case", "zero gradients, %", "verdict"]
    lines: list[Line] = []
    for network in networks:
        for eps in sorted(e for n, e in lowest.index if n == network):
            found = {str(attack): float(value) for attack, value in means[network, eps].items()}
            texts = {attack: words.fraction(value) for attack, value in found.items()}
            texts |= {"ε": f"{eps:g}", "worst case": words.fraction(lowest[network, eps]), "verdict": verdict(found, reference)}
            if (network, eps) in zeros.index:
                texts["zero gradients, %"] = f"{100 * zeros[network, eps]:.1f}"
            lines.append((network, texts))
    note = (
        f"{_n(images)}; mean DIC over them. *Worst case*: per image the lowest DIC over all attacks of the line, then the mean. "
        "*Zero gradients*: share of the gradient that is exactly 0, the highest of the white-box attacks. *Masking suspected*: "
        f"DIC under {reference} is over {words.fraction(MASKING_GAP, 2)} higher than under the strongest other attack; more steps "
        f"or a better objective alone can do that too. *Transfer stronger*: DIC under it is over {words.fraction(TRANSFER_GAP, 2)} "
        "lower than under every white-box attack."
    )
    return f"### Stronger attacks\n\n{note}\n\n{markdown('network', columns, lines)}"


def _zero_gradients(rows: pd.DataFrame) -> pd.Series:
    """By network and eps: mean over images of the share of zero gradients, the highest of the white-box attacks."""
    images = per_image(rows, "zero_gradient").dropna(subset="value")
    images = images[(images["attack"] != CLEAN) & ~images["attack"].str.startswith(TRANSFER)]
    return images.groupby(["network", "eps", "attack"])["value"].mean().groupby(["network", "eps"]).max()


def verdict(means: dict[str, float], reference: str) -> str:
    """What the mean DIC under each attack at one eps says about gradient masking."""
    others = [value for attack, value in means.items() if attack != reference]
    transfer = [value for attack, value in means.items() if attack.startswith(TRANSFER)]
    white_box = [value for attack, value in means.items() if not attack.startswith(TRANSFER)]
    told = ["masking suspected"] * (reference in means and means[reference] - min(others) > MASKING_GAP)
    told += ["transfer stronger"] * bool(transfer and white_box and min(white_box) - min(transfer) > TRANSFER_GAP)
    return ", ".join(told) or "–"


def pair_table(rows: pd.DataFrame, pairs: Pairs, metric: str = "dice") -> str:
    """Paired differences of networks, clean and under every attack and eps that both have, Markdown.

    With the 95 % interval of the bootstrap over patients and the Wilcoxon signed-rank p, Holm-corrected over the table.
    """
    images = per_image(rows, metric)
    order = [CLEAN, *(a for a in rows["attack_row"].unique() if a != CLEAN)]
    cells = dict(list(images.groupby(["network", "attack", "eps"])))
    found = []
    for a, b in pairs:
        for kind, eps in sorted({key[1:] for key in cells}, key=lambda key: (order.index(key[0]), key[1])):
            if (a, kind, eps) in cells and (b, kind, eps) in cells:
                found.append((a, b, kind, eps, stats.compare(cells[a, kind, eps], cells[b, kind, eps])))
    lines = [f"| comparison | attack | ε | n | difference in {NAMES[metric]} [95 %] | p (Holm) |", "|---|---|---:|---:|---|---|"]
    for (a, b, kind, eps, c), p in zip(found, stats.holm([c.p for *_, c in found])):
        size = "–" if kind == CLEAN else f"{eps:g}"
        lines.append(f"| {a} − {b} | {kind} | {size} | {c.n} | {_difference(c)} | {words.p_value(p)} |")
    note = "Per image the mean over the trainings; 95 % intervals by bootstrap over patients, Wilcoxon signed-rank p over patients."
    return f"### Paired differences in {NAMES[metric]}\n\n{note}\n\n" + "\n".join(lines) + "\n"


def _difference(c: stats.Comparison) -> str:
    """``+.012 [−.003, +.027]``"""
    return f"{words.gain(c.difference)} [{words.gain(c.ci_low)}, {words.gain(c.ci_high)}]"


class Leads(NamedTuple):
    """DIC of one network minus that of another on the same images; ``eps`` where both met stronger attacks, ``None`` if nowhere."""

    average: stats.Comparison
    largest: stats.Comparison
    largest_eps: float
    eps: list[float]
    there: stats.Comparison | None
    strongest: stats.Comparison | None


def leads(rows: pd.DataFrame, a: str, b: str, reference: str) -> Leads | None:
    """Differences of two networks: under the reference attack averaged over all eps > 0, at the largest, and averaged over the eps
    where both met stronger attacks; under the strongest attack averaged over these. None where the reference was not run on both.
    """
    images = per_image(rows, "dice")
    weak, strong = images[(images["attack"] == reference) & (images["eps"] > 0)], strongest(rows, "dice", reference)

    def shared(found: pd.DataFrame) -> list[float]:
        return sorted(set(found.loc[found["network"] == a, "eps"]) & set(found.loc[found["network"] == b, "eps"]))

    def difference(found: pd.DataFrame, eps: Sequence[float]) -> stats.Comparison:
        found = found[found["eps"].isin(eps)]
        one, two = (found[found["network"] == n].groupby(IMAGE, as_index=False)["value"].mean() for n in (a, b))
        return stats.compare(one, two)

    if not (everywhere := shared(weak)):
        return None
    eps = [e for e in shared(strong) if e in everywhere]
    there, lowest = (difference(weak, eps), difference(strong, eps)) if eps else (None, None)
    return Leads(difference(weak, everywhere), difference(weak, everywhere[-1:]), everywhere[-1], eps, there, lowest)


def surviving(rows: pd.DataFrame, pairs: Pairs, reference: str) -> str:
    """For every pair, in words: its lead in DIC under the reference attack, and that under the strongest one."""
    told = [_sentences(rows, a, b, found, reference) for a, b in pairs if (found := leads(rows, a, b, reference))]
    return "### The advantage under the stronger attacks\n\n" + "\n\n".join(told) + "\n"


def _sentences(rows: pd.DataFrame, a: str, b: str, found: Leads, reference: str) -> str:
    text = (
        f"**{a} against {b}** (n = {words.count(found.average.n, 'image')}; differences in DIC, 95 % intervals in brackets). "
        f"Under {reference} {a} {_leads(found.average)} on average over all ε > 0 and {_leads(found.largest)} at "
        f"ε = {found.largest_eps:g}. "
    )
    if found.there is None or found.strongest is None:
        return text + "No stronger attack was run on both at one ε: nothing is said about the advantage under them."
    where = f"ε = {words.listing([f'{e:g}' for e in found.eps])}" + (", averaged" if len(found.eps) > 1 else "")
    text += f"Where stronger attacks were run ({where}) it {_leads(found.there)} under {reference} and {_leads(found.strongest)} "
    return (
        f"{text}under the strongest attack (per image the lowest DIC of all: {_attacks(rows, a, b, found.eps)}). {_verdict(found)}"
    )


def _leads(c: stats.Comparison) -> str:
    verb = "leads by" if c.ci_low > 0 else "trails by" if c.ci_high < 0 else "does not differ clearly,"
    return f"{verb} {_difference(c)}"


def _attacks(rows: pd.DataFrame, a: str, b: str, eps: Sequence[float]) -> str:
    """The attacks that were run at some eps, with those that only one of two networks met."""
    tried = rows[rows["eps"].isin(eps) & (rows["attack_row"] != CLEAN)]
    of = {n: list(tried.loc[tried["network"] == n, "attack_row"].unique()) for n in (a, b)}
    told = words.listing([attack for attack in of[a] if attack in of[b]])
    for one, other in ((a, b), (b, a)):
        if alone := [attack for attack in of[one] if attack not in of[other]]:
            told += f"; {one} also {words.listing(alone)}"
    return told


def _verdict(found: Leads) -> str:
    assert found.strongest is not None
    led = found.average.ci_low > 0 or found.largest.ci_low > 0
    if found.strongest.ci_low > 0:
        return "The advantage **survives**." if led else "An advantage **survives** the strongest attack, though none shows before."
    return "The advantage **does not survive**." if led else "There is **no advantage to survive**."
