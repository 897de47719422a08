"""A model that is no bundle in our dialect is audited as by hand; what it does not take is refused in words."""

from __future__ import annotations

import csv
import re

import pandas as pd
import pytest
import yaml
from swept import tables
from zoo import endoscopy

from monai_advdef.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    bundle, data = endoscopy.build(folder)
    bundle.rename(folder / "BUNDLE")
    data.rename(folder / "DATA")
    return folder


def study(folder, **changes):
    told = {
        "models": {"tool": "BUNDLE"},
        "data": {"all": "DATA"},
        "attacks": ["clean", {"overlay": "suites/smoke", "checks": False}],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump({**told, **changes}), encoding="utf-8")
    return str(folder / "study.yaml")


def test_a_foreign_bundle_is_audited_as_by_hand(folder, store, capsys):
    assert main(["sweep", study(folder), "--output_dir", str(folder / "out")]) == 0
    told = capsys.readouterr().out
    assert "it is evaluated clean in each of its audits" in told and "1 cells: 1 done" in told
    by_hand = ["audit", str(folder / "BUNDLE"), "--dataset_dir", str(folder / "DATA"), "--suite", "smoke", "--no_checks"]
    assert main([*by_hand, "--output_dir", str(folder / "hand")]) == 0
    ours, theirs = tables(folder / "out"), tables(folder / "hand")
    assert ours.keys() == theirs.keys() and len(ours) == 3  # clean, noise, suite
    for name, table in ours.items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True)
    (row,) = csv.DictReader(open(folder / "out" / "study.csv", encoding="utf-8"))
    assert row["attack"] == "smoke" and {f"{name}.parquet" for name in row["fingerprints"].split()} == ours.keys()
    (card,) = (folder / "out" / "audits").glob("*/card.html")
    assert str(card) in told


def test_a_dry_run_of_an_audit(folder, capsys):
    assert main(["sweep", study(folder), "--output_dir", str(folder / "dry"), "--dry_run"]) == 0
    assert "tool, all, smoke: " in capsys.readouterr().out and not (folder / "dry" / "records").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attacks": ["attacks/pgd"]}, "attacks: pgd: tool is a MONAI bundle.*give a suite"),
        ({"attacks": [{"overlay": "suites/smoke", "options": {"seed": 1}}]}, "of its options only eps is taken, not 'seed'"),
        ({"data": {"all": {"dataset_dir": "DATA", "section": "test"}}}, "section and settings are for bundles with a threat_def"),
        ({"overlays": ["outputs/attacked_volumes"]}, "it takes no overlays"),
    ],
)
def test_what_an_audit_does_not_take_is_refused(folder, capsys, changes, words):
    assert main(["sweep", study(folder, **changes), "--output_dir", str(folder / "refused")]) == 2
    told = capsys.readouterr().err
    assert re.search(words, told), told
