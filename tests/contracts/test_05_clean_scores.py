"""Promise 5: the clean score of every victim stands beside its attacked ones, per class, on the same cases."""

from __future__ import annotations

import pytest

from monai_advdef.records import read_records

CELLS = [(), ("defenses/jpeg",), ("attacks/fgsm",), ("attacks/fgsm", "defenses/jpeg")]


@pytest.fixture(scope="module")
def table(phantom_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    for overlays in CELLS:
        phantom_bundle.evaluate(folder, *overlays)
    return read_records(folder / "records")


def test_every_victim_has_a_clean_row_for_every_attacked_one(table):
    keys = ["model", "defense", "case", "patient", "class", "metric"]
    clean, attacked = table[table["attack"] == "none"], table[table["attack"] != "none"]
    assert len(attacked) and set(clean["defense"]) == {"none", "JPEG(85, 4:2:0)"}
    assert sorted(map(tuple, clean[keys].to_numpy())) == sorted(map(tuple, attacked[keys].to_numpy()))


def test_clean_rows_cost_nothing_and_change_nothing(table):
    clean = table[table["attack"] == "none"]
    assert (clean[["eps", "linf", "l2", "forwards", "backwards", "steps"]] == 0).all(axis=None)


def test_attack_and_clean_cells_rest_on_the_same_weights(phantom_bundle, table):
    scores = table[table["metric"] == "dice"].groupby(["defense", "attack"])["value"].mean()
    assert scores["none", "none"] > 0.7, "the checkpoint was not loaded"
    assert scores["none", "FGSM"] < scores["none", "none"]
