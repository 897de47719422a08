"""Networks before and after training with a generator's images: Dice under old and new attacks, and paired gains. Markdown.

``rows`` are those of :mod:`monai_advdef.papers.synthesis.scores` with the added columns ``network`` and ``maker``, the network that
a generator was trained against.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from monai_advdef import stats
from monai_advdef.papers.synthesis.scores import FIELDS, GENERATOR, drop, pooled
from monai_advdef.report import words
from monai_advdef.report.paper_table import Line, markdown

CLEAN = "clean"
MEAN = "mean of the organs"
OLD = "generator trained against {}"
OWN = "generator trained against itself"


def page(rows: pd.DataFrame, networks: Sequence[str], per: str) -> list[str]:
    """The parts of the page; the first network is the one before."""
    scores = by_attack(rows, networks, per)
    return [dice_table(scores, networks), gains(scores, networks)]


def by_attack(rows: pd.DataFrame, networks: Sequence[str], per: str) -> pd.DataFrame:
    """Columns ``network, attack, class, case, patient, dice, warped``, a row for every organ and unit, mean over xi and checkpoints.

    The attacks: :data:`CLEAN`, the generator trained against the first network, the one trained against the network itself, and the
    field attack on the network itself.
    """
    parts, whose = [], {key: part for key, part in rows.groupby(["network", "maker", "kind", "xi", "parts"], sort=False)}
    for (network, maker, kind, _, _), part in whose.items():
        found = pooled(part, per)
        found["patient"] = found[per].map(part.drop_duplicates(per).set_index(per)["patient"]) if per != "patient" else found[per]
        found = found.assign(case=found[per], network=str(network))
        names = [OLD.format(networks[0]) if maker == networks[0] else OWN] if kind == GENERATOR else [FIELDS]
        parts += [found.assign(attack=name) for name in names]
        parts += [found.assign(attack=OWN)] if kind == GENERATOR and maker == network == networks[0] else []
        parts.append(found.assign(attack=CLEAN, dice=found["clean"], warped=found["clean"]))
    unit = ["network", "attack", "class", "case", "patient"]
    return pd.concat(parts).groupby(unit, as_index=False, sort=False)[["dice", "warped"]].mean()


def dice_table(scores: pd.DataFrame, networks: Sequence[str]) -> str:
    """Dice in per cent against the labels as they are / as warped, a line for every network and attack."""
    organs = [str(organ) for organ in scores["class"].unique()]
    told: list[Line] = []
    clean = float("nan")
    for network in networks:
        for attack in attacks(networks):
            cell = scores[(scores["network"] == network) & (scores["attack"] == attack)]
            if not len(cell):
                continue
            means = {organ: _means(cell[cell["class"] == organ]) for organ in organs}
            means[MEAN] = {name: sum(m[name] for m in means.values()) / len(organs) for name in ("dice", "warped")}
            clean = means[MEAN]["dice"] if attack == CLEAN else clean
            texts = {name: f"{100 * m['dice']:.1f} / {100 * m['warped']:.1f}" for name, m in means.items()}
            told.append((f"{network}: {attack}", {**texts, "drop, %": f"{100 * drop(clean, means[MEAN]['dice']):.1f}"}))
    n = scores["patient"].nunique()
    note = (
        f"n = {words.count(n, 'patient')}; Dice in % against the labels as they are / as warped along with the image, means over "
        "patients, ξ and checkpoints. *Drop*: of the mean of the organs, relative to the same network's clean one."
    )
    return f"### Networks under the attacks\n\n{note}\n\n{markdown('', [*organs, MEAN, 'drop, %'], told)}"


def gains(scores: pd.DataFrame, networks: Sequence[str]) -> str:
    """Paired differences in the mean Dice of the organs of every network against the first, and in words what is gained."""
    tests = []
    for name in networks[1:]:
        for attack in attacks(networks):
            one, two = (_scored(scores[(scores["network"] == n) & (scores["attack"] == attack)]) for n in (name, networks[0]))
            if len(one) and len(two):
                tests.append((name, attack, stats.compare(one, two)))
    told: list[Line] = []
    for (name, attack, c), p in zip(tests, stats.holm([c.p for *_, c in tests])):
        interval = f"{words.gain(c.difference)} [{words.gain(c.ci_low)}, {words.gain(c.ci_high)}]"
        told.append(
            (
                f"{name} − {networks[0]}",
                {"attack": attack, "n": str(c.n), "difference [95 %]": interval, "p (Holm)": words.p_value(p)},
            )
        )
    sentences = [_sentence(name, [(a, c) for n, a, c in tests if n == name]) for name in networks[1:]]
    note = "Mean Dice of the organs against the labels as they are; 95 % bootstrap intervals over patients, Wilcoxon signed-rank p."
    table = markdown("comparison", ["attack", "n", "difference [95 %]", "p (Holm)"], told)
    return f"### What is gained\n\n{note}\n\n{table}\n" + "\n\n".join(sentences) + "\n"


def attacks(networks: Sequence[str]) -> list[str]:
    """In the order of the tables."""
    return [CLEAN, OLD.format(networks[0]), OWN, FIELDS]


def _sentence(name: str, tests: Sequence[tuple[str, stats.Comparison]]) -> str:
    sides: dict[str, list[str]] = {"gains under": [], "loses under": [], "does not differ clearly under": []}
    for attack, c in tests:
        side = "gains under" if c.ci_low > 0 else "loses under" if c.ci_high < 0 else "does not differ clearly under"
        sides[side].append("no attack" if attack == CLEAN else f"the {attack}")
    return f"**{name}** {'; '.join(f'{side} {words.listing(names)}' for side, names in sides.items() if names)}."


def _means(cell: pd.DataFrame) -> dict[str, float]:
    return {name: float(cell[name].mean()) for name in ("dice", "warped")}


def _scored(found: pd.DataFrame) -> pd.DataFrame:
    return found.rename(columns={"dice": "value"})[["case", "patient", "class", "value"]]
