"""Models from elsewhere audited in one command: small bundles in published shapes, networks from Python, our own bundle."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, HistogramNormalized, LoadImaged, ScaleIntensityRanged
from PIL import Image
from torch import nn
from zoo import endoscopy, spleen

import monai_advdef
from monai_advdef.__main__ import main
from monai_advdef.audit import Given
from monai_advdef.bundle import workflows
from monai_advdef.errors import DataError
from monai_advdef.records import read_records
from monai_advdef.study import Cell, recorded

KEYS = ["case", "attack", "class", "metric"]


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlruns.db'}")
        yield


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """An endoscopy bundle and its audit by the smoke suite, without checks."""
    folder = tmp_path_factory.mktemp("tool")
    bundle, data = endoscopy.build(folder)
    made = monai_advdef.audit(bundle, data, output_dir=folder / "out", suite="smoke", checks=False, gates=["dice@clean >= 0.5"])
    return bundle, data, folder / "out", made


def rows(folder) -> pd.DataFrame:
    return read_records(folder / "records").sort_values([*KEYS, "steps"]).reset_index(drop=True)


def linear(weight: float = 0.1, at: float = 110.0) -> nn.Module:
    """A network of one channel that finds what is brighter than ``at``."""
    net = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        net.weight[:] = torch.tensor([-weight, weight]).reshape(2, 1, 1, 1)
        net.bias[:] = torch.tensor([weight * at, -weight * at])
    return net


def discs(cases: int = 2) -> list[dict]:
    """Discs of 114 on 100, as arrays: 8 grey levels decide."""
    grid = np.mgrid[:24, :24]
    masks = [((grid - np.array([10 + i, 12])[:, None, None]) ** 2).sum(0) < 40 for i in range(cases)]
    return [
        {"case": f"disc {i}", "image": (100.0 + 14 * m)[None].astype(np.float32), "label": m[None].astype(np.uint8)}
        for i, m in enumerate(masks)
    ]


def test_a_bundle_is_audited_unchanged_and_by_hand_stock_monai_gives_equal_records(tool, tmp_path):
    _, _, out, made = tool
    ours = rows(out)
    assert made.code == 0 and {"none", "noise-uniform", "worst"} <= set(ours["attack"]) and set(ours["unit"]) == {"", "grey level"}
    worst, clean = (ours[(ours["attack"] == a) & (ours["metric"] == "dice")]["value"].mean() for a in ("worst", "none"))
    assert worst < clean
    overlays = [str(workflows()[name]) for name in ("audit/evaluate", "suites/smoke")]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str([str(out / "model.yaml"), *overlays])]
    done = subprocess.run([*command, "--output_dir", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    by_hand = rows(tmp_path)
    same = ours[ours["suite"] == "smoke"].reset_index(drop=True)
    pd.testing.assert_frame_equal(same.drop(columns="seconds"), by_hand.drop(columns="seconds"))


def test_an_audit_leaves_what_was_found_planned_and_concluded(tool):
    _, _, out, made = tool
    told = json.loads((out / "audit.json").read_text())
    assert told["model"]["kind"] == "MONAI bundle" and told["exit_code"] == 0
    assert told["suite"]["digest"] == made.suite.digest and told["plan"]["cases"] == 3
    assert told["gates"][0]["passed"] is True and told["threat"]["eps"] == 8
    fields = {fact["field"] for fact in told["facts"]}
    assert {"network", "checkpoint", "classes", "unit", "range", "cases"} <= fields
    for name in ("card.html", "evidence.html", "evidence.json", "evidence.md"):
        page = (out / name).read_text()
        assert len(page) < 3e6 and "http://" not in page.replace("http://www.w3.org", "")


def test_an_audit_that_is_run_again_gives_the_same_and_leaves_no_adversarial_images(tool):
    bundle, data, out, _ = tool
    before = rows(out)
    assert not (out / "adversarial").exists()
    monai_advdef.audit(bundle, data, output_dir=out, suite="smoke", checks=False)
    pd.testing.assert_frame_equal(rows(out).drop(columns="seconds"), before.drop(columns="seconds"))
    assert not (out / "adversarial").exists()


def test_a_missed_gate_ends_the_command_with_1_and_a_wrong_one_with_2(tool, tmp_path, capsys):
    bundle, data, out, _ = tool
    words = ["audit", str(bundle), "--dataset_dir", str(data), "--output_dir", str(out), "--suite", "smoke", "--no_checks"]
    junit = tmp_path / "junit.xml"
    assert main([*words, "--gate", "dice@8 grey level >= 0.999", "--junit", str(junit)]) == 1
    assert "MISSED" in capsys.readouterr().out and "<failure" in junit.read_text()
    assert main([*words, "--gate", "dise@8 >= 0.9"]) == 2
    assert "dise" in capsys.readouterr().err


def test_a_dry_run_says_what_it_would_do_and_stops(tool, tmp_path, capsys):
    bundle, data, _, _ = tool
    words = ["audit", str(bundle), "--dataset_dir", str(data), "--output_dir", str(tmp_path), "--dry_run"]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "grey level" in told and "at most 100 a case, 300 in all" in told and "adversarial" in told
    assert not (tmp_path / "records").exists() and (tmp_path / "audit.json").exists()


def test_without_labels_the_reference_is_the_clean_prediction_and_the_word_is_stability(tmp_path):
    bundle, data = spleen.build(tmp_path)
    made = monai_advdef.audit(bundle, data, output_dir=tmp_path / "out", suite="smoke", checks=False, labels="none", limit=1)
    found = rows(tmp_path / "out")
    clean = found[(found["attack"] == "none") & (found["metric"] == "dice")]["value"]
    assert made.code == 0 and set(found["reference"]) == {"own prediction"} and (clean == 1).all()
    page = (tmp_path / "out" / "card.html").read_text()
    assert "tability" in page
    with pytest.raises(ValueError, match="stability"):
        monai_advdef.audit(bundle, data, output_dir=tmp_path / "out", labels="none", gates=["dice@8HU >= .5"])


def test_a_network_from_python_in_five_lines(tmp_path):
    """Worked out by hand: 14 between disc and ground, the border in the middle; 6 leave everything, 8 turn every pixel."""
    given = {"classes": ["disc"], "unit": "grey level", "value_range": (0, 255), "suite": "smoke", "checks": False}
    for eps, left in ((6, 1.0), (8, 0.0)):
        monai_advdef.audit(linear(at=107), discs(), eps=eps, output_dir=tmp_path / str(eps), **given)
        found = rows(tmp_path / str(eps))
        assert found[(found["attack"] == "worst") & (found["metric"] == "dice")]["value"].tolist() == [left, left]


def test_a_preprocessing_without_a_gradient_is_attacked_at_the_networks_input_and_said_so(tmp_path):
    for case in discs():
        for kind, x in (("image", case["image"][0]), ("label", 255 * case["label"][0])):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(x.T.astype(np.uint8)).save(tmp_path / kind / f"{case['case']}.png")
    cases = [
        {"case": p.stem, "image": str(p), "label": str(tmp_path / "label" / p.name)} for p in (tmp_path / "image").glob("*.png")
    ]
    chain = Compose(
        [
            LoadImaged(["image", "label"]),
            EnsureChannelFirstd(["image", "label"]),
            ScaleIntensityRanged("label", 0, 255, 0, 1),
            HistogramNormalized("image", min=0, max=255),
        ]
    )
    model = Given(linear(), ["disc"], preprocessing=chain, name="equalised")
    made = monai_advdef.audit(model, cases, output_dir=tmp_path / "out", suite="smoke", checks=False, unit="grey level")
    assert any("input" in note for note in made.notes)
    found = rows(tmp_path / "out")
    assert any("input" in unit for unit in set(found["unit"]))
    assert "input" in (tmp_path / "out" / "card.html").read_text()


def test_our_own_bundle_gives_the_numbers_of_its_own_evaluation_to_the_digit(phantom_bundle, tmp_path):
    root, data = phantom_bundle.root, phantom_bundle.root / "phantom"
    made = monai_advdef.audit(root, data, output_dir=tmp_path / "audit", suite="smoke", checks=False, limit=2)
    first = {"batch_size": 1, "validate::evaluator::epoch_length": 2}
    settings = {"dataset_dir": str(data), "output_dir": str(tmp_path / "own"), "ckpt_dir": str(root / "models"), **first}
    own = [recorded(root, Cell(overlays), settings) for overlays in ((), ("attacks/noise",), ("suites/smoke",))]
    people = pd.read_csv(tmp_path / "audit" / "private" / "cases.csv")
    named = rows(tmp_path / "audit")
    stood = {**dict(zip(people["patient"], people["patient_name"])), **dict(zip(people["case"], people["name"]))}
    for column in ("case", "patient"):
        named[column] = named[column].map(stood)
    every = (named, pd.concat(own).fillna({"budget": ""}))
    audited, alone = (found.sort_values(KEYS).reset_index(drop=True).drop(columns="seconds") for found in every)
    assert made.code == 0
    pd.testing.assert_frame_equal(audited, alone[audited.columns])


def test_a_limit_beyond_the_cases_is_all_of_them(phantom_bundle, tmp_path):
    root, data = phantom_bundle.root, phantom_bundle.root / "phantom"
    made = monai_advdef.audit(root, data, output_dir=tmp_path / "audit", suite="smoke", checks=False, limit=99)
    cases = len(pd.read_csv(tmp_path / "audit" / "private" / "cases.csv"))
    assert made.code == 0 and len(set(rows(tmp_path / "audit")["case"])) == cases < 24


def test_what_is_no_model_and_what_is_no_option_is_said(tmp_path, capsys):
    with pytest.raises(ValueError, match="audit has no option 'epsilon'.*eps"):
        monai_advdef.audit(linear(), discs(), epsilon=8, output_dir=tmp_path)
    with pytest.raises(DataError, match="classes: the network does not name"):
        monai_advdef.audit(linear(), discs(), output_dir=tmp_path)
    with pytest.raises(DataError, match="data: a network from Python needs its cases"):
        monai_advdef.audit(linear(), classes=["disc"], output_dir=tmp_path)
    for given in ({"checkpoint": "model.pt"}, {"overrides": {"network": "unet"}}):
        with pytest.raises(DataError, match="does nothing here: a network from Python says that itself"):
            monai_advdef.audit(linear(), discs(), classes=["disc"], output_dir=tmp_path, **given)
    (tmp_path / "empty").mkdir()
    for model, word in ((tmp_path / "nothing", "no such file"), (tmp_path / "empty", "no MONAI bundle")):
        assert main(["audit", str(model), "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 2
        assert word in capsys.readouterr().err


def test_items_of_a_bundle_can_be_set_and_are_told(tool, tmp_path, capsys):
    bundle, data, _, _ = tool
    words = ["audit", str(bundle), "--dataset_dir", str(data), "--output_dir", str(tmp_path), "--dry_run", "--limit", "1"]
    assert main([*words, "--set", "inferer::_target_=SlidingWindowInferer", "inferer::roi_size=[16,16]"]) == 0
    told = capsys.readouterr().out
    assert "inferer::roi_size: [16, 16] (given by --set)" in told and "SlidingWindowInferer" in told
    assert main([*words, "--set", "inference::inferer=1"]) == 2 and "has no 'inference'" in capsys.readouterr().err
    assert main([*words, "--set", "infere=1"]) == 2 and "inferer" in capsys.readouterr().err
    assert main([*words, "--checkpoint", str(tmp_path / "no.pt")]) == 2 and "no such file" in capsys.readouterr().err
    assert main([*words, "--set", "inferer"]) == 2 and "NAME=VALUE" in capsys.readouterr().err


def test_a_report_can_be_made_again_with_its_evidence(tool, capsys):
    out = tool[2]
    (out / "evidence.html").unlink()
    assert main(["report", str(out), "--evidence"]) == 0
    assert "evidence.html" in capsys.readouterr().out and (out / "evidence.html").is_file()
