"""Tables of a paper: text from invented rows against numbers made by hand, and whole tables on the phantom bundle."""

from __future__ import annotations

import os
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from monai_advdef.bundle import workflows
from monai_advdef.diagnostic_stats import wilson_interval
from monai_advdef.papers import FrequencyRefinementTable, Table
from monai_advdef.records import read_records
from monai_advdef.report import paper_table

COLUMNS = ["no defence", "FR(30,5,80)"]


def rows(values, column=COLUMNS[0], attack="clean", attacker="", network="a", metric="iou", name="lesion"):
    cases = [f"c{i:02d}" for i in range(len(values))]
    about = {"column": column, "attack_row": attack, "attacker": attacker, "network": network, "metric": metric, "class": name}
    return pd.DataFrame({"case": cases, "patient": cases, "value": values, **about})


def test_a_cell_is_the_mean_over_cases_of_the_mean_over_networks():
    one, two = np.array([0.2, 0.6, 1.0]), np.array([0.4, 0.4, 0.4])
    both = (one + two) / 2
    assert paper_table.per_cent(rows(one)) == f"{100 * one.mean():.1f} ± {100 * one.std():.1f}"
    told = paper_table.per_cent(pd.concat([rows(one), rows(two, network="b")]))
    assert told == f"{100 * both.mean():.1f} ± {100 * both.std():.1f} (40.0–60.0)"


def test_the_lower_attacker_is_chosen_by_its_mean_and_printed_first():
    table = pd.concat(
        [
            rows([0.5, 0.7], attack="ASMA", attacker="oblivious"),
            rows([0.4, 0.6], attack="ASMA", attacker="adaptive"),
            rows([0.1, 0.3], COLUMNS[1], "ASMA", "oblivious"),
        ]
    )
    lines = paper_table.attack_lines(table, COLUMNS, "iou")
    assert [name for name, _ in lines] == ["**strongest of all attackers**", "adaptive", "oblivious"]
    assert lines[0][1] == {COLUMNS[0]: "**50.0 ± 10.0**", COLUMNS[1]: "**20.0 ± 10.0** †"}, (
        "the second was attacked obliviously only"
    )
    assert COLUMNS[1] not in lines[1][1]


def test_paired_comparisons_agree_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.random(20), rng.random(20)
    text = paper_table.paired(pd.concat([rows(a), rows(b, "x"), rows(a + 0.01, "y")]), [("x", COLUMNS[0]), ("y", COLUMNS[0])])
    p = wilcoxon(b - a).pvalue
    cells = [c.strip() for c in text.splitlines()[2].split("|")[1:-1]]
    assert cells[:2] == [f"x − {COLUMNS[0]}", "20"] and cells[2].startswith(f"{100 * (b - a).mean():+.1f} [")
    assert float(cells[3]) == pytest.approx(p, rel=0.05), "the smaller p of the other pair is doubled, not this one"


def table(number, **options):
    settings = {"dataset_dir": "", "output_dir": "out", "ckpt_dir": "models"}
    defenses = [{"name": COLUMNS[0]}, {"name": COLUMNS[1], "overlay": "defenses/frequency_refinement"}]
    return FrequencyRefinementTable(number=number, bundle_root=".", settings=settings, defenses=defenses, **options)


def test_table_three_counts_patients_and_orders_readings():
    truth = np.array([1, 1, 1, 0, 0.0])
    parts = []
    for column, decided, shift in ((COLUMNS[0], [1, 0, 0, 0, 1], 20), (COLUMNS[1], [1, 1, 0, 0, 0], 5)):
        for attack, side in (("clean", ""), ("ASMA", "oblivious")):
            about = {"column": column, "attack": attack, "attacker": side, "name": "glaucoma"}
            parts += [rows(truth, metric="truth", **about), rows(decided, metric="positive_cup_disc_ratio", **about)]
            parts.append(rows([0.9, 0.2, 0.3, 0.1, 0.8], metric="cup_disc_ratio", **about))
            parts.append(rows([shift] * 5, metric="crop_shift_px", **{**about, "name": "optic disc"}))
    page = table(3, task="fundus", attacks=[{"name": "ASMA", "overlay": "attacks/asma"}]).page(pd.concat(parts))
    low, high = wilson_interval(1, 3)
    assert f"33.3 [{100 * low:.0f}, {100 * high:.0f}] (50.0)" in page, "one of three found, one of two healthy ones cleared"
    assert "| ASMA: oblivious | 20.0 (20.0) | 5.0 (5.0) |" in page
    assert "| the paper | 50.6 | 68.2 |" in page
    assert "| clean | 0.67 [" in page.split("AUC [95 %]: vertical cup/disc ratio")[1]


def test_wrong_tables_are_refused():
    with pytest.raises(ValueError, match="number must be 1, 2 or 3, got 4"):
        table(4)
    twice = [{"name": "x", "overlay": "attacks/pgd"}, {"name": "x", "overlay": "attacks/asma"}]
    with pytest.raises(ValueError, match="attacks of the table share a name"):
        table(2, attacks=twice)
    with pytest.raises(TypeError, match="Table defines no page"):
        Table(name="t", bundle_root=".", settings={"output_dir": "o", "ckpt_dir": "m"}).page(pd.DataFrame())


@pytest.mark.slow
def test_table_two_runs_from_one_command_and_crafts_each_image_once(phantom_bundle, tmp_path):
    """The stock command, with fewer columns and steps; a second run takes every adversarial image from the cache."""
    words = phantom_bundle.words(tmp_path, workflows()["papers/frequency_refinement/table2"])
    fewer = [
        {"name": "no defence"},
        {"name": "FR(30,5,80)", "overlay": "defenses/frequency_refinement", "options": {"band_std": "fitted"}},
    ]
    asma = {"steps": 4, "tau": 1e-4, "beta": 1e-3, "stored": "uint8"}
    attacks = [
        {"name": "ASMA", "overlay": "attacks/asma", "options": asma},
        {"name": "PGD", "overlay": "attacks/pgd", "options": {"steps": 2, "eps": 4.0}, "adaptive": []},
    ]
    done = phantom_bundle.command(*words, "--table::defenses", str(fewer), "--table::attacks", str(attacks))
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    page = (tmp_path / "frequency_refinement_table2.md").read_text()
    for told in ("| benign |", "ASMA: **strongest of all attackers**", "ASMA: adaptive", "IoU to its target", "46.6 ± 9.2"):
        assert told in page
    found = read_records(tmp_path / "records")
    assert set(found["attack"]) == {"none", "ASMA (8-bit)", "PGD dice"}
    crafted = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "adversarial").iterdir()}
    cases = found["case"].nunique()
    assert len(crafted) == 3 * cases, "ASMA on the bare network and through FR, PGD on the bare network"
    settings = phantom_bundle.settings(tmp_path)
    again = FrequencyRefinementTable(
        number=2, bundle_root=phantom_bundle.root, settings=settings, defenses=fewer, attacks=attacks, task="skin"
    )
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        assert again.run().read_text() == page
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "adversarial").iterdir()} == crafted
