"""Promise 25: noise of the same norm and size stands beside every attacked number, for context."""

from __future__ import annotations

import pytest
from conftest import blobs
from synthetic_records import cells, rows_of, study

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import Noise
from monai_advdef.checks import run_checks
from monai_advdef.records import RecordWriter
from monai_advdef.report import build
from monai_advdef.report.scope import read_scope
from monai_advdef.report.tables import headline_table


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "sign"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8.0), ("l2", 200.0)])
def test_noise_has_the_size_of_the_attack_in_its_norm(victim, norm, eps, kind):
    image, label = blobs(3, seed=4)
    threat = ThreatModel(norm=norm, eps=eps)  # nothing is clipped: no pixel is near an end of the range
    outcome = run(Noise(kind=kind), victim, threat, image.clamp(20, 235), label)
    assert outcome.size.tolist() == pytest.approx([eps] * 3, rel=1e-3)
    assert bool((outcome.size <= eps * (1 + 1e-6)).all())


def write(folder, chosen):
    for cell in chosen:
        rows = rows_of(cell)
        with RecordWriter(folder / "records", rows[0]["fingerprint"], {}) as writer:
            writer.add(rows)
    return folder


def test_it_stands_in_the_row_of_every_defence(tmp_path):
    folder = write(tmp_path, cells((4, 8)))
    table = study()
    for row in headline_table(read_scope(folder / "records")):
        name = "none" if row["name"] == "no defence" else row["name"]
        noise = table[
            (table["defense"] == name) & (table["attack"] == "noise-uniform") & (table["eps"] == 8) & (table["metric"] == "dice")
        ]
        assert row["noise"].mean.strip("0") == f"{noise['value'].mean():.3f}".strip("0")


def test_where_it_was_not_run_the_card_says_so(tmp_path):
    folder = write(tmp_path, [cell for cell in cells((8,)) if not cell["attack"].startswith("noise")])
    assert all(row["noise"] is None for row in headline_table(read_scope(folder / "records")))
    page = build(folder).read_text(encoding="utf-8")
    assert "under noise" in page and "not run" in page


def test_a_check_of_an_attack_tells_what_noise_does(victim, cases, threat):
    (found,) = run_checks(victim, threat, cases[0][:2], cases[1][:2], only=["White box"])
    known = float(run(Noise(kind="uniform"), victim, threat, cases[0][:2], cases[1][:2]).score.mean())
    assert found.numbers["uniform noise"] == pytest.approx(known) and "uniform noise" in found.evidence
