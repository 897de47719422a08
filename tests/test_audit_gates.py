"""Gates of an audit: refused before the work where their number will not be there, told with exit code, JSON and JUnit after it."""

from __future__ import annotations

import json
import os
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from monai_advdef.audit import Given, audit
from monai_advdef.errors import DataError

OPTIONS = {"suite": "smoke", "eps": 5.0, "unit": "HU", "value_range": [-200, 400], "checks": False, "device": "cpu"}


class Bright(nn.Module):
    """Foreground where it is bright."""

    def __init__(self, threshold=50.0):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), 0.1 * (x - self.threshold)], 1)


def cases(count=6):
    found = []
    for seed in range(count):
        g = torch.Generator().manual_seed(seed)
        label = torch.zeros(1, 16, 16)
        label[:, 4:11, 3 + seed : 9 + seed] = 1
        found.append({"case": f"c{seed}", "image": 5 * torch.randn(1, 16, 16, generator=g) + 100 * label, "label": label})
    return found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gates": ["dice@5HU => .5"]}, "one of >= <= > < is expected"),
        ({"gates": ["dice@3HU >= .5"]}, "3 HU will not be attacked \\(but 5\\)"),
        ({"gates": ["dice@5 sigma >= .5"]}, "it is in sigma, and the images are in HU"),
        ({"gates": ["dice[liver]@5HU >= .5"]}, "no class 'liver'"),
        ({"gates": ["dice@5HU/full >= .5"]}, "no suite or attack is called 'full'"),
        ({"baseline": "nowhere"}, "there are no records in nowhere"),
        ({"margin": 3.0}, "--margin must be"),
        ({"groups": "nowhere.csv"}, "nowhere.csv cannot be read"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_the_work(tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=told):
        audit(Given(Bright(), ["organ"]), cases(2), output_dir=str(tmp_path / "out"), **OPTIONS, **options)
    assert not (tmp_path / "out" / "records").exists()


def test_gates_and_baseline_decide_the_exit_code(tmp_path, store):
    first = audit(Given(Bright(), ["organ"]), cases(), output_dir=str(tmp_path / "first"), **OPTIONS, gates=["dice@5HU >= .5"])
    assert first.code == 0 and first.gates[0].passed
    options = {**OPTIONS, "gates": ["dice@5HU >= .5", "dice@clean >= .999"], "baseline": str(tmp_path / "first")}
    worse = audit(
        Given(Bright(97.0), ["organ"]), cases(), output_dir=str(tmp_path / "second"), junit=str(tmp_path / "j.xml"), **options
    )
    kept = {gate.name: gate.passed for gate in worse.gates}
    assert worse.code == 1 and kept.pop("dice@clean >= 0.999") is False and not any(v for k, v in kept.items() if "baseline" in k)
    told = json.loads((tmp_path / "second" / "audit.json").read_text(encoding="utf-8"))
    assert told["exit_code"] == 1 and [g["name"] for g in told["gates"]] == [g.name for g in worse.gates]
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert int(root.attrib["tests"]) == len(worse.gates) and int(root.attrib["failures"]) == sum(not g.passed for g in worse.gates)
    assert os.path.exists(worse.card)
