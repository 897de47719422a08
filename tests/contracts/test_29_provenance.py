"""Promise 29: every number traces to versions, weights, data and configuration."""

from __future__ import annotations

import json

import engines
import monai
import pytest
import torch

import monai_advdef
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.handlers.identity import weights_hash
from monai_advdef.records import read_provenance, read_records
from monai_advdef.report import build
from monai_advdef.report.words import short_hash

THREAT = {"eps": 8.0, "value_range": (0, 255), "unit": "grey level"}


def cell(folder, network, *, steps: int = 1, seed: int = 2) -> RecordHandler:
    """One evaluation of three cases."""
    attack = AttackHandler("PGD", THREAT, steps=steps)
    records = RecordHandler(folder, ["lesion"], attack=attack, gallery=False, card=False)
    evaluate(engines.evaluator(network, [attack, records], data=engines.items(3, seed=seed)), attack, records)
    return records


@pytest.fixture
def network(trained):
    return engines.network(trained)


def test_every_row_names_weights_data_and_configuration(tmp_path, network):
    records = cell(tmp_path, network)
    rows, facts = read_records(records.records), read_provenance(records.records)
    assert set(rows["weights"]) == {weights_hash(network)} and rows["data"].nunique() == 1 and rows["data"].iloc[0]
    known = facts[rows["fingerprint"].iloc[0]]
    assert known["weights"] == rows["weights"].iloc[0] and known["data"] == rows["data"].iloc[0]
    attack = known["config"]["attack"]
    assert attack["attack"]["_target_"] == "monai_advdef.attacks.PGD" and attack["attack"]["steps"] == 1
    assert attack["threat"]["eps"] == 8.0 and attack["threat"]["unit"] == "grey level" and attack["seed"] == 0
    assert known["config"]["cases"] == ["case_0", "case_1", "case_2"]


def test_versions_command_and_time_are_kept(tmp_path, network):
    records = cell(tmp_path, network)
    (known,) = json.loads(json.dumps(list(read_provenance(records.records).values())))
    assert known["versions"]["monai_advdef"] == monai_advdef.__version__ and known["versions"]["monai"] == monai.__version__
    assert known["versions"]["torch"] == torch.__version__ and known["command"] and known["recorded"][:2] == "20"


def test_what_decides_a_number_decides_its_name(tmp_path, network, trained):
    names = {"as it is": cell(tmp_path / "a", network).fingerprint}
    assert cell(tmp_path / "b", network).fingerprint == names["as it is"]
    names["attack"] = cell(tmp_path / "c", network, steps=2).fingerprint
    names["data"] = cell(tmp_path / "d", network, seed=3).fingerprint
    other = engines.network(trained)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    names["weights"] = cell(tmp_path / "e", other).fingerprint
    assert len(set(names.values())) == len(names)


def test_the_card_tells_weights_versions_and_command(tmp_path, network):
    records = cell(tmp_path, network)
    page = build(tmp_path).read_text(encoding="utf-8")
    (known,) = read_provenance(records.records).values()
    assert f"weights {short_hash(known['weights'])}" in page and f"data {short_hash(known['data'])}" in page
    assert f"monai {monai.__version__}" in page and known["command"].split()[0] in page
