"""The how-to page of sweeps and its studies: commands are parsed, studies read, links followed."""

from __future__ import annotations

import re
import shlex

import pytest

from monai_advdef.bundle import describe, home, workflows
from monai_advdef.commands import parser
from monai_advdef.sweep import read_study
from monai_advdef.sweep.study import ATTACK, DATA, DEFENSE, MODEL, STUDY

FOLDER = home("workflows") / "sweeps"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
STUDIES = sorted(FOLDER.glob("*.yaml"))


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_mean_something():
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("monai-advdef")]
    found = [parser().parse_args(shlex.split(line, comments=True)[1:]) for line in lines]
    assert len(found) == 7 and {args.verb for args in found} == {"sweep"}
    assert {args.engine for args in found} == {"process", "slurm", "ray"} and any(args.dry_run for args in found)


def test_what_is_linked_is_there_and_options_and_keys_are_known():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (FOLDER / target).exists(), target
    for name in re.findall(r"`--([a-z_]+)", PAGE):
        assert f"--{name}" in parser().options(), name
    for key in {*STUDY, *MODEL, *DATA, *ATTACK, *DEFENSE}:
        assert f"`{key}`" in PAGE, f"the page says nothing of {key}"


def test_the_study_of_the_page_is_read(tmp_path, monkeypatch):
    (block,) = blocks("yaml")
    monkeypatch.setenv("DATA", str(tmp_path))
    (tmp_path / "models" / "trades").mkdir(parents=True)
    (tmp_path / "models" / "trades" / "model.pt").touch()
    (tmp_path / "study.yaml").write_text(block)
    study = read_study(tmp_path / "study.yaml")
    assert list(study.models) == ["unet", "hardened"] and [attack.name for attack in study.attacks][1:] == [
        f"standard eps {size}" for size in (2, 4, 8)
    ]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_read_and_described_and_is_no_overlay(path, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", str(tmp_path))
    study = read_study(path)
    assert study.name == path.stem and study.models and describe(path)
    assert f"sweeps/{path.stem}" not in workflows()
