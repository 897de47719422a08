"""Text and figures of a sweep, from invented rows: numbers against numpy and pandas, thresholds, figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import wilcoxon

from monai_advdef import stats
from monai_advdef.papers.nlcen import figures as sweep_figures
from monai_advdef.papers.nlcen import tables as sweep_tables
from monai_advdef.papers.nlcen.tables import CLEAN, MASKING_GAP, TRANSFER_GAP
from monai_advdef.papers.study_rows import csv

PAPER, MARGIN, TRANSFER = "targeted i-FGSM", "PGD margin", "transfer from its twin"
A, B, C = "NLCEN", "NLCEN w/o NLCE", "UNet"


def rows(values, network=A, attack=CLEAN, eps=0.0, training=0, metric="dice"):
    names = [f"c{i:02d}" for i in range(len(values))]
    about = {"metric": metric, "network": network, "training": training, "attack_row": attack, "eps": eps}
    about |= {"class": "image" if metric == "zero_gradient" else "lung", "attack": "of the records", "seed": 7, "model": network}
    return pd.DataFrame({"case": names, "patient": names, "value": values, **about})


def cells(text):
    """The lines of the Markdown tables in a text, as lists of cells, heads first."""
    return [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|") and "---" not in line]


def fraction(value, sign=""):
    told = format(value, f"{sign}.3f").replace("0.", ".", 1).replace("-", "−")
    return told.lstrip("+−") if told.endswith(".000") and abs(value) < 0.5 else told


def sweep(lead=0.05, strong_lead=0.0, images=24):
    """Two networks with a common difficulty of each image; A leads under the paper's attack and under the stronger one as told."""
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 0.02, images)
    parts = []
    for network, gain, strong_gain in ((A, lead, strong_lead), (B, 0.0, 0.0)):
        for metric in ("dice", "iou"):
            parts.append(rows(0.9 + hard, network, metric=metric))
            for eps, level in ((2.0, 0.7), (8.0, 0.5), (32.0, 0.2)):
                noise = rng.normal(0, 0.004, images)
                parts.append(rows(level + hard + gain + noise, network, PAPER, eps, metric=metric))
                if eps < 32:
                    parts.append(rows(level - 0.1 + hard + strong_gain - noise, network, MARGIN, eps, metric=metric))
    return pd.concat(parts, ignore_index=True)


def test_curve_table_holds_the_mean_over_images_of_the_mean_over_trainings():
    rng = np.random.default_rng(0)
    clean, one, two = rng.uniform(0.5, 0.9, (3, 9))
    three = np.full(9, 0.25)
    table = pd.concat(
        [rows(clean), rows(clean, training=1), rows(one, A, PAPER, 10.0), rows(two, A, PAPER, 10.0, 1), rows(three, A, PAPER, 2.0)]
        + [rows(three, C), rows(clean, A, MARGIN, 4.0), rows(clean, A, PAPER, 10.0, metric="iou")]
    )
    text = sweep_tables.curve_table(table, [A, C], PAPER, "dice", "DIC of all")
    both = (one + two) / 2
    low, high = sorted([one.mean(), two.mean()])
    assert text.startswith("### DIC of all\n\nn = 9 images of 9 patients; trainings: 2 of NLCEN and 1 of UNet.")
    assert cells(text) == [
        ["ε", A, C],
        [CLEAN, f"{fraction(clean.mean())} ± {fraction(clean.std())} ({fraction(clean.mean())}–{fraction(clean.mean())})"]
        + [".250 ± .000"],
        ["2", ".250 ± .000", "–"],
        ["10", f"{fraction(both.mean())} ± {fraction(both.std())} ({fraction(low)}–{fraction(high)})", "–"],
    ], "clean first, then by eps as numbers"


@pytest.mark.parametrize("training", [0, 1])
def test_classes_of_an_image_are_averaged_first(training):
    table = pd.concat([rows([0.2, 0.4], training=training), rows([0.6, 0.8], training=training).assign(**{"class": "heart"})])
    text = sweep_tables.curve_table(table, [A], PAPER, "dice", "")
    assert cells(text)[1] == [CLEAN, ".500 ± .100"] and "one training of each network" in text


def test_strength_table_has_the_lowest_per_image_and_the_zero_gradients_of_white_box_attacks():
    reference, margin, transfer = [0.8, 0.6, 0.7], [0.7, 0.7, 0.6], [0.9, 0.5, 0.8]
    table = pd.concat(
        [rows([0.9] * 3), rows(reference, A, PAPER, 8.0), rows(margin, A, MARGIN, 8.0), rows(transfer, A, TRANSFER, 8.0)]
        + [rows([0.1] * 3, A, PAPER, 4.0), rows([0.1] * 3, C, PAPER, 8.0)]
        + [rows([0.0, 0.3, 0.0], A, PAPER, 8.0, metric="zero_gradient"), rows([0.2] * 3, A, MARGIN, 8.0, metric="zero_gradient")]
        + [rows([0.9] * 3, A, TRANSFER, 8.0, metric="zero_gradient")]
    )
    head, *lines = cells(sweep_tables.strength_table(table, [A, C], PAPER))
    assert head == ["network", "ε", PAPER, MARGIN, TRANSFER, "worst case", "zero gradients, %", "verdict"]
    worst = np.min([reference, margin, transfer], axis=0).mean()
    assert lines == [[A, "8", ".700", ".667", ".733", fraction(worst), "20.0", "–"]], "no line where only the paper's attack was run"


def test_the_worst_attack_is_sought_for_each_training():
    first, second = {PAPER: 0.5, MARGIN: 0.1}, {PAPER: 0.2, MARGIN: 0.6}
    parts = [rows([v] * 2, A, a, 8.0, t) for t, values in enumerate((first, second)) for a, v in values.items()]
    found = sweep_tables.strongest(pd.concat(parts), "dice", PAPER)
    assert found["value"].tolist() == pytest.approx([(0.1 + 0.2) / 2] * 2)
    with pytest.raises(ValueError, match=r"not every training of NLCEN was attacked by PGD margin at eps 8"):
        sweep_tables.strongest(pd.concat(parts[:3]), "dice", PAPER)


@pytest.mark.parametrize(
    ("means", "told"),
    [
        ({PAPER: 0.60, MARGIN: 0.60 - MASKING_GAP + 0.001}, "–"),
        ({PAPER: 0.60, MARGIN: 0.60 - MASKING_GAP - 0.001}, "masking suspected"),
        ({PAPER: 0.60, MARGIN: 0.58, TRANSFER: 0.58 - TRANSFER_GAP + 0.001}, "–"),
        ({PAPER: 0.60, MARGIN: 0.58, TRANSFER: 0.58 - TRANSFER_GAP - 0.001}, "transfer stronger"),
        ({PAPER: 0.56, MARGIN: 0.60, TRANSFER: 0.55}, "–"),
        ({PAPER: 0.60, MARGIN: 0.62, TRANSFER: 0.40}, "masking suspected, transfer stronger"),
        ({MARGIN: 0.1}, "–"),
    ],
)
def test_verdicts_speak_up_only_beyond_their_gaps(means, told):
    assert sweep_tables.verdict(means, PAPER) == told


def test_pair_table_is_that_of_stats_compare_and_of_scipy():
    table = pd.concat([sweep(), rows(np.full(24, 0.3), A, TRANSFER, 8.0)])
    one, two = (table[(table["network"] == n) & (table["metric"] == "dice")] for n in (A, B))
    head, *lines = cells(sweep_tables.pair_table(table, [(A, B)]))
    expected, raw = [], []
    for attack, eps in ((CLEAN, 0.0), (PAPER, 2.0), (PAPER, 8.0), (PAPER, 32.0), (MARGIN, 2.0), (MARGIN, 8.0)):
        a, b = (n[(n["attack_row"] == attack) & (n["eps"] == eps)].sort_values("case")["value"].to_numpy() for n in (one, two))
        low, high = stats.bootstrap_interval(a - b, np.arange(24))
        told = f"{fraction((a - b).mean(), '+')} [{fraction(low, '+')}, {fraction(high, '+')}]"
        expected.append([f"{A} − {B}", attack, f"{eps:g}" if eps else "–", "24", told])
        raw.append(wilcoxon(a - b).pvalue if (a != b).any() else 1.0)
    assert head[-2:] == ["difference in DIC [95 %]", "p (Holm)"]
    assert [line[:5] for line in lines] == expected, "without the transfer, which only one of the two met"
    adjusted = stats.holm(raw)
    assert [line[5] for line in lines] == ["1" if p > 0.9995 else "<.001" if p < 0.001 else fraction(p) for p in adjusted]
    assert "difference in JSC" in sweep_tables.pair_table(table, [(A, B)], "iou")


@pytest.mark.parametrize(
    ("lead", "strong_lead", "told"),
    [
        (0.05, 0.04, "The advantage **survives**."),
        (0.05, 0.0, "The advantage **does not survive**."),
        (0.05, -0.04, "The advantage **does not survive**."),
        (-0.02, -0.04, "There is **no advantage to survive**."),
        (-0.01, 0.05, "An advantage **survives** the strongest attack, though none shows before."),
    ],
)
def test_what_survives_is_said_from_the_intervals(lead, strong_lead, told):
    text = sweep_tables.surviving(sweep(lead, strong_lead), [(A, B)], PAPER)
    assert text.rstrip().endswith(told)
    assert ("leads by" if lead > 0 else "trails by") in text.split("on average")[0]


def test_leads_are_compared_over_the_same_images_and_strengths():
    table = sweep(0.05, 0.03)
    dice = table[table["metric"] == "dice"].pivot_table(index="case", columns=["network", "attack_row", "eps"], values="value")
    found = sweep_tables.leads(table, A, B, PAPER)
    weak = (dice[A][PAPER] - dice[B][PAPER]).mean(axis=1)
    lowest = {n: np.mean([np.minimum(dice[n][PAPER][e], dice[n][MARGIN][e]) for e in (2.0, 8.0)], axis=0) for n in (A, B)}
    assert found.eps == [2.0, 8.0] and found.largest_eps == 32
    assert found.average.difference == pytest.approx(weak.mean())
    assert (found.average.ci_low, found.average.ci_high) == pytest.approx(stats.bootstrap_interval(weak.to_numpy(), np.arange(24)))
    assert found.largest.difference == pytest.approx((dice[A][PAPER][32.0] - dice[B][PAPER][32.0]).mean())
    assert found.there.difference == pytest.approx((dice[A][PAPER] - dice[B][PAPER])[[2.0, 8.0]].mean(axis=1).mean())
    assert found.strongest.difference == pytest.approx((lowest[A] - lowest[B]).mean())
    text = sweep_tables.surviving(table, [(A, B)], PAPER)
    for c in (found.average, found.largest, found.there, found.strongest):
        assert f"leads by {fraction(c.difference, '+')} [{fraction(c.ci_low, '+')}, {fraction(c.ci_high, '+')}]" in text
    assert f"{PAPER} and {MARGIN})" in text and "ε = 2 and 8, averaged" in text


def test_an_attack_that_only_one_network_met_counts_and_is_named():
    table = pd.concat([sweep(0.05, 0.05), *(rows(np.full(24, 0.05), A, TRANSFER, e) for e in (2.0, 8.0))])
    text = sweep_tables.surviving(table, [(A, B)], PAPER)
    assert f"{PAPER} and {MARGIN}; {A} also {TRANSFER})" in text and text.rstrip().endswith("**does not survive**.")


def test_without_stronger_attacks_nothing_is_said_about_what_survives():
    table = sweep()
    table = table[table["attack_row"] != MARGIN]
    assert "nothing is said about the advantage under them" in sweep_tables.surviving(table, [(A, B)], PAPER)
    assert len(cells(sweep_tables.strength_table(table, [A, B], PAPER))) == 1, "a head alone"
    assert sweep_tables.leads(table[table["network"] == A], A, B, PAPER) is None


def test_csv_has_every_cell_once():
    table = pd.concat([sweep(), rows([0.1, 0.3], C, training=2)])
    found = csv(table)
    assert list(found) == ["network", "training", "attack", "eps", "metric", "n", "mean", "std"]
    key = ["network", "training", "attack_row", "eps", "metric"]
    expected = table.groupby(key)["value"].agg(n="count", mean="mean", std=lambda v: v.std(ddof=0))
    found = found.rename(columns={"attack": "attack_row"}).set_index(key).sort_index()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


def lines_of(ax):
    return [line for line in ax.get_lines() if line.get_label() != "_lead"]


def test_curves_has_a_solid_and_a_dashed_line_for_each_network(tmp_path, drawn):
    table = pd.concat(
        [sweep(), *(rows(np.full(24, v), C, PAPER if e else CLEAN, e, metric="iou") for e, v in ((0.0, 0.9), (8.0, 0.1)))]
    )
    sweep_figures.curves(table, tmp_path / "x.png", [A, B, C], "iou", PAPER)
    (figure,) = drawn
    (ax,) = figure.axes
    solid = [line for line in lines_of(ax) if line.get_linestyle() == "-"]
    dashed = [line for line in lines_of(ax) if line.get_linestyle() != "-"]
    assert len(solid) == 3 and len(dashed) == 2, "no stronger attack was run on the third"
    mean = table[(table["metric"] == "iou") & (table["network"] == A) & table["attack_row"].isin([CLEAN, PAPER])]
    np.testing.assert_allclose(solid[0].get_ydata(), mean.groupby("eps")["value"].mean())
    assert list(solid[0].get_xdata()) == [0, 2, 8, 32] and list(dashed[0].get_xdata()) == [2, 8]
    assert ax.get_ylim() == (0, 1) and len(ax.collections) == 2, "bands for the first two only"
    assert [t.get_text() for t in ax.texts] == [A, B, C] and len({t.get_position()[1] for t in ax.texts}) == 3
    assert len({line.get_marker() for line in solid}) == 3 and len({line.get_color() for line in solid}) == 3
    assert Image.open(tmp_path / "x.png").convert("L").getextrema()[0] < 100


def test_pairs_has_a_panel_for_each_pair(tmp_path, drawn):
    table = sweep()
    named = pd.concat([table.assign(network=table["network"] + f" {i}") for i in range(4)])
    sweep_figures.pairs(named, tmp_path / "x.png", [(f"{A} {i}", f"{B} {i}") for i in range(4)], PAPER)
    (figure,) = drawn
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 4 and all(len(lines_of(ax)) == 4 and ax.get_ylim() == (0, 1) for ax in shown)
    assert [t.get_text() for t in shown[3].get_legend().get_texts()] == [f"{A} 3", f"{B} 3"]
    assert Image.open(tmp_path / "x.png").convert("L").getextrema()[0] < 100
