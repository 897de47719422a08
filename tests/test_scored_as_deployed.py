"""Small bundles in the shapes of published ones, scored by an audit and by stock MONAI's own evaluation of their own files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.engines import IterationEvents

from monai_advdef.audit import AuditOptions
from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.reading import Reading
from monai_advdef.audit.scoring import explain
from monai_advdef.audit.socket import plugged, write_socket
from monai_advdef.bundle import workflows
from monai_advdef.records import read_records

QUIET: dict[str, Any] = {"logging_file": False, "meta_file": None}
pytestmark = pytest.mark.usefixtures("store")


def read(name: str, folder: Path, **more: Any) -> tuple[Reading, Path]:
    bundle, data = importlib.import_module(f"zoo.{name}").build(folder)
    options = AuditOptions(dataset_dir=str(data), output_dir=str(folder / "out"), device="cpu", trust=True, **more)
    return read_bundle(bundle, options), data


def audited(reading: Reading, out: Path, **socket: Any) -> Any:
    """The clean evaluation of an audit, and its records as a table of means."""
    config = plugged(reading, str(out), "cpu")
    config["deployed"] |= {"labelled": True, "at_input": True, "per_sigma": False, **socket}
    config["threat_def"] = {"_target_": "monai_advdef.ThreatModel", "eps": 1, "value_range": "image"}
    files = [*write_socket(config, out), workflows()["audit/evaluate"]]
    if not config["deployed"]["labelled"]:
        files.append(workflows()["audit/unlabelled"])
    made = ConfigWorkflow([str(f) for f in files], workflow_type=None, **QUIET)
    made.initialize()
    made.run()
    return made.parser


def stock(reading: Reading, data: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics and outputs of the bundle's own evaluation."""
    folders = {n: reading.overlay[n] for n in ("dataset_dir", "data_file_base_dir") if n in reading.overlay}
    files = [str(f) for f in reading.files]
    made = ConfigWorkflow(files, workflow_type=None, bundle_root=str(reading.root), **folders, **QUIET)
    handlers = made.parser.get("validate::handlers")
    made.parser.set([h for h in handlers if "TensorBoard" not in h["_target_"]], "validate::handlers")  # which is not installed
    made.initialize()
    evaluator = made.parser.get_parsed_content("validate::evaluator")
    seen: list[dict[str, Any]] = []
    evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda e: seen.extend(dict(o) for o in e.state.output))
    if "CheckpointLoader" not in str(made.parser.get()):  # a training file, whose run would have trained the network before
        evaluator.network.load_state_dict(torch.load(reading.root / "models" / "model.pt")["model"])
    evaluator.run()
    return dict(evaluator.state.metrics), seen


def dice(a: Any, b: Any) -> float:
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("name", ["spleen", "gliomas", "prostate", "renal"])
def test_the_models_own_number_is_that_of_stock_monai(tmp_path, monkeypatch, name):
    reading, data = read(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    parser = audited(reading, tmp_path / "out")
    (own,) = parser.get_parsed_content("own_metric_def").scores
    expected, seen = stock(reading, data)
    assert own.value == pytest.approx(expected[own.name], abs=1e-6)
    table = read_records(tmp_path / "out" / "records")
    means = table.groupby("metric")["value"].mean()
    assert abs(own.value - means["dice"]) <= 0.005 or explain(own, means["network_dice"], means["dice"])
    assert "background" not in set(table["class"])
    if name == "spleen":  # whose own postprocessing brings the prediction to the file's grid
        for case, output in zip(reading.overlay["deployed"]["cases"], seen):
            label = np.asarray(nib.load(case["label"]).dataobj)
            found = table[(table["case"] == case["case"]) & (table["metric"] == "dice")]["value"]
            assert found.item() == pytest.approx(dice(output["pred"][1], label), abs=1e-6)


def test_pictures_are_scored_in_their_own_size(tmp_path, monkeypatch):
    reading, _ = read("endoscopy", tmp_path, labels="test/*/{case}_seg.jpg")
    monkeypatch.chdir(tmp_path)
    parser = audited(reading, tmp_path / "out")
    output = parser.get_parsed_content("validate::evaluator").state.output[0]
    assert output["pred"].shape == output["label"].shape == (1, 48, 32) and output["network_pred"].shape == (1, 32, 24)
    means = read_records(tmp_path / "out" / "records").groupby("metric")["value"].mean()
    assert means["dice"] > 0.9 and means["structure_px"] == pytest.approx(253, abs=3) and means["hd95_px"] <= 2


@pytest.mark.parametrize("name", ["spleen", "gliomas"])
def test_without_labels_the_clean_prediction_is_perfectly_stable(tmp_path, monkeypatch, name):
    reading, _ = read(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    audited(reading, tmp_path / "out", labelled=False)
    table = read_records(tmp_path / "out" / "records")
    means = table.groupby("metric")["value"].mean()
    assert means["dice"] == means["network_dice"] == 1 and set(table["reference"]) == {"own prediction"}
    assert len(list((tmp_path / "out" / "reference").glob("*.npz"))) == len(reading.overlay["deployed"]["cases"])
