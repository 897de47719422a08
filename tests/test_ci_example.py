"""The example for build servers: it is read as a workflow, its commands and gates are ours, and it uploads nothing private."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from monai_advdef.audit.privacy.people import FOLDER
from monai_advdef.commands import parser
from monai_advdef.gates import check_margin, check_plan, parse_gates
from monai_advdef.suite import load_suite

FILE = Path(__file__).parents[1] / "examples" / "ci" / "audit.yml"


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def commands(workflow):
    """The arguments of every command of ours, with the workflow's variables filled in."""
    found = []
    for step in workflow["jobs"]["audit"]["steps"]:
        text = step.get("run", "")
        for name, value in workflow["env"].items():
            text = text.replace(f"${name}", value)
        lines = text.replace("\\\n", " ").splitlines()
        found += [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/monai-advdef ")]
    return found


def test_it_is_a_workflow(workflow):
    on = workflow[True]  # YAML 1.1 reads the key `on` as true
    assert {"pull_request", "schedule", "workflow_dispatch"} == set(on)
    steps = workflow["jobs"]["audit"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(isinstance(value, str) for value in workflow["env"].values())
    assert workflow["permissions"] == {"contents": "read"}


def test_its_commands_are_read_by_our_command_line(workflow):
    dry, audit = (parser().parse_args(words) for words in commands(workflow))
    assert dry.dry_run and not audit.dry_run and dry.output_dir == audit.output_dir == "out"
    gates = parse_gates(audit.gates)
    assert len(gates) == 4 and check_margin(audit.margin) == 0.02 and audit.junit and audit.baseline
    suite = load_suite(audit.suite)
    check_plan(gates, sizes=audit.eps, unit="HU", classes=["spleen"], measures=["dice", "iou"], attacks=[suite.name])


def test_it_uploads_nothing_private(workflow):
    (upload,) = (step for step in workflow["jobs"]["audit"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert upload["if"] == "always()"
    paths = upload["with"]["path"].split()
    assert f"!out/{FOLDER}" in paths and "out" not in paths
    kept = [path for path in paths if not path.startswith("!")]
    assert not [path for path in kept if any(word in path for word in (FOLDER, "adversarial", "model.yaml", "gallery"))]
