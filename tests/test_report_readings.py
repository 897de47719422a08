"""The table of surfaces, components and volumes against means by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from audit_records import scores, write_audit

from monai_advdef.report import build
from monai_advdef.report.readings import readings
from monai_advdef.report.scope import read_scope


def table(folder: Path, **more: dict[str, np.ndarray]) -> dict[str, list[str]]:
    section = readings(read_scope(write_audit(folder, scores(0.9, 0.4), more=more) / "records"))
    assert section is not None and section.heads == ["reading", "unit", "clean", "under attack"]
    return {row[0]: row[1:] for row in section.rows}


def test_means_of_what_was_read(tmp_path):
    rng = np.random.default_rng(0)
    change = {"clean": rng.normal(0, 1, (8, 2)), "worst": rng.normal(-20, 5, (8, 2))}
    nsd = {"clean": np.full((8, 2), 0.95), "worst": np.full((8, 2), 0.5)}
    rows = table(tmp_path, volume_change_ml=change, nsd=nsd)
    assert list(rows) == ["surface Dice (NSD)", "volume that is too much or too little"]
    assert [cell.split()[0] for cell in rows["surface Dice (NSD)"]] == ["–", ".950", ".500"]
    unit, *cells = rows["volume that is too much or too little"]
    assert unit == "ml"
    for cell, side in zip(cells, ("clean", "worst")):
        assert cell.startswith(f"{np.abs(change[side]).mean():.3g} (")  # sizes do not cancel


def test_undefined_readings_and_none(tmp_path):
    percent = {"clean": np.full((8, 2), 4.0), "worst": np.full((8, 2), np.nan)}
    percent["clean"][0] = np.nan  # nothing labelled
    assert table(tmp_path / "a", volume_change_percent=percent)["the same, of the labelled volume"][1:] == ["4 (4–4)", "–"]
    assert readings(read_scope(write_audit(tmp_path / "b", scores(0.9, 0.4)) / "records")) is None


def test_it_stands_on_the_card(tmp_path):
    more = {"hd95_mm": {"clean": np.full((8, 2), 1.5), "worst": np.full((8, 2), 31.0)}}
    write_audit(tmp_path, scores(0.9, 0.4), more=more)
    build(tmp_path)
    page = (tmp_path / "card.html").read_text()
    assert "Surfaces, components and volumes" in page and "distance of the surfaces (HD95)" in page and "31" in page
