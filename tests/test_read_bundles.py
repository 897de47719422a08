"""Bundles in the shapes of published ones are read as they are, and their parts in the socket do what stock MONAI does with them."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.engines import IterationEvents

from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.isolation import isolated
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.weights import loaded_network

# name of the builder: classes, head, cases, and what stock MONAI has to be told on a machine without a GPU
ZOO: dict[str, tuple[list[str], str, list[str], dict[str, Any]]] = {
    "spleen": (["spleen"], "softmax", ["spleen_3", "spleen_4"], {}),
    "endoscopy": (["tools"], "softmax", ["00", "20", "10"], {}),
    "gliomas": (["Tumor core", "Whole tumor", "Enhancing tumor"], "sigmoid", ["case_1_t1c", "case_3_t1c"], {}),
    "pancreas": (
        ["pancreas", "pancreatic tumor"],
        "softmax",
        ["pancreas_001", "pancreas_003"],
        {"arch_ckpt": "$torch.load(@arch_ckpt_path, weights_only=False)"},
    ),
    "whole_body": ([f"organ {i}" for i in range(1, 12)], "softmax", ["s0000", "s0001"], {"inferer::device": "cpu"}),
    "prostate": (["prostate_inner", "prostate_outer"], "softmax", ["002_t2", "003_t2"], {}),
    "ventricle": (
        ["left ventricle pool", "left ventricle myocardium", "right ventricle pool"],
        "softmax",
        ["stack_0", "stack_1"],
        {},
    ),
    "renal": (["background", "kidney", "vessel", "tumor"], "sigmoid", ["p0_12", "p1_12"], {}),
    "brain": (
        ["3rd-Ventricle", "4th-Ventricle", "Right-Accumbens-Area", "Left-Accumbens-Area"],
        "softmax",
        ["t1_0", "t1_1"],
        {},
    ),
    "template": (["class 1", "class 2", "class 3"], "softmax", ["img0", "img1"], {}),
    "pediatric": (["liver", "spleen", "pancreas"], "softmax", ["TS0", "TS1"], {}),
}
OWN_CODE = ("renal", "brain")
Built = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A bundle of the zoo and its data, made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            made[name] = importlib.import_module(f"zoo.{name}").build(tmp_path_factory.mktemp(name))
        return made[name]

    return of


def read(bundle: Path, data: Path, out: Path, **more: Any) -> Reading:
    return read_bundle(bundle, AuditOptions(dataset_dir=str(data), output_dir=str(out), device="cpu", **more))


def copied(bundle: Path, to: Path) -> Path:
    return Path(shutil.copytree(bundle, to / bundle.name))


def ours(reading: Reading) -> torch.Tensor:
    """The logits of the first case, by the parts that the socket refers to."""
    parser = ConfigParser(isolated(reading))
    part = {name: parser.get_parsed_content(f"deployed::{name}") for name in ("network", "inferer", "preprocessing", "checkpoint")}
    network = loaded_network(part["network"], part["checkpoint"])
    case = part["preprocessing"](dict(reading.overlay["deployed"]["cases"][0]))
    assert reading.overlay["deployed"]["label_key"] in case
    with torch.no_grad():
        return torch.as_tensor(part["inferer"](torch.as_tensor(case["image"])[None].float(), network))


def stock(reading: Reading, data: Path, given: dict[str, Any]) -> torch.Tensor:
    """The logits of the first case, by MONAI's own run of the bundle's files."""
    names = [n for n in ("dataset_dir", "data_file_base_dir") if n in reading.overlay]
    folders = {n: reading.overlay[n] for n in names}
    listed = reading.root / "configs" / "TS_test.json"
    if listed.is_file():  # a list with the paths of another machine
        local = reading.root / "configs" / "local.json"
        local.write_text(listed.read_text().replace("/processed/Public/CT_TotalSegmentator", str(data)))
        folders["data_list_file_path"] = str(local)
    workflow = ConfigWorkflow(
        [str(f) for f in reading.files],
        logging_file=False,
        workflow_type="train",
        bundle_root=str(reading.root),
        output_dir=str(reading.root / "eval"),
        **folders,
        **given,
    )
    evaluator_id = "validate::evaluator" if "validate" in workflow.parser.get() else "evaluator"
    if "train" in workflow.parser.get():  # its handlers want TensorBoard where no evaluate.* replaces them
        board = workflow.parser.get("validate::handlers")
        workflow.parser.set([h for h in board if "TensorBoard" not in h["_target_"]], "validate::handlers")
    workflow.initialize()
    evaluator = workflow.parser.get_parsed_content(evaluator_id)
    seen: list[torch.Tensor] = []
    if "CheckpointLoader" not in str(workflow.parser.get()):  # a training file, whose run would have trained the network before
        evaluator.network.load_state_dict(torch.load(reading.root / "models" / "model.pt")["model"])
    evaluator.add_event_handler(
        IterationEvents.FORWARD_COMPLETED, lambda e: seen.append(torch.as_tensor(e.state.output["pred"]).clone())
    )
    evaluator.run()
    return seen[0][:1]


@pytest.mark.parametrize("name", ZOO)
def test_each_is_read_and_does_what_stock_monai_does(
    name: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = built(name)
    reading = read(bundle, data, tmp_path, trust=name in OWN_CODE)
    classes, head, cases, given = ZOO[name]
    deployed = reading.overlay["deployed"]
    assert (deployed["classes"], deployed["activation"]) == (classes, head)
    assert [case["case"] for case in deployed["cases"]] == cases
    assert all(Path(case[deployed["label_key"]]).is_file() for case in deployed["cases"])
    assert deployed["key_metric"] is None or deployed["key_metric"].startswith("@")
    assert all(fact.value and fact.source for fact in reading.facts)
    told = ["format 'hounsfield' of the network's input in configs/metadata.json"]
    assert [s.source for s in reading.stated] == (told if (bundle / "configs" / "metadata.json").is_file() else [])
    monkeypatch.chdir(tmp_path)
    logits = ours(reading)
    assert logits.shape[1] == len(classes) + (head == "softmax")
    torch.testing.assert_close(logits, stock(reading, data, given), rtol=0, atol=1e-5)


def test_a_bundle_is_left_as_it_was(built: Built, tmp_path: Path) -> None:
    bundle, data = built("pancreas")
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    read(bundle, data, tmp_path)
    assert {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file() and p.parent.name != "__pycache__"} == before
