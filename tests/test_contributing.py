"""The worked examples of CONTRIBUTING.md are carried out: what they add is held to what is held of the house's own."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils.deprecate_utils import DeprecatedError
from test_docs_commands import check, commands

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import IterativeFGSM, Noise
from monai_advdef.bundle import bundles, describe
from monai_advdef.checks import make_subject
from monai_advdef.data import PHANTOMS, TASKS, check_folder
from monai_advdef.networks.factory import NETWORKS
from monai_advdef.records import read_records
from monai_advdef.study import workflow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
Contributed = Callable[..., types.ModuleType]


def section(title: str, kind: str) -> str:
    """The blocks of a section, joined."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"no {kind} under {title}"
    return "\n".join(found)


@pytest.fixture
def contributed(monkeypatch) -> Contributed:
    """``contributed(title, house, *names)``: the module that a section describes, its names given to a module of the house."""

    def made(title: str, house: str = "", *names: str) -> types.ModuleType:
        module = types.ModuleType("contributed")
        monkeypatch.setitem(sys.modules, "contributed", module)
        exec(compile("from __future__ import annotations\n" + section(title, "python"), title, "exec"), vars(module))  # noqa: S102
        for name in names:
            monkeypatch.setattr(sys.modules[house], name, vars(module)[name], raising=False)
            monkeypatch.setattr(sys.modules[house], "__all__", [*sys.modules[house].__all__, name])
        return module

    return made


def evaluated(bundle: Any, title: str, out: Path, **told: Any) -> Any:
    """The records of the skin bundle under the overlay of a section."""
    overlay = out / "overlay.yaml"
    overlay.write_text(section(title, "yaml"), encoding="utf-8")
    assert describe(overlay)
    files = [bundle.root / "configs" / f"{name}.yaml" for name in ("train", "evaluate")]
    workflow(bundle.root, [*files, overlay], {**bundle.settings(out), **told}).run()
    return read_records(out / "records")


def test_commands_and_what_is_linked_are_there():
    found = commands("CONTRIBUTING.md")
    assert found
    for words in found:
        check(bundles()["skin_lesion_dermoscopy_segmentation"], words)
    for file in re.findall(r"`(tests/[\w/]+(?:\.py)?|setup\.cfg|\.ci/run)`", PAGE):
        assert (ROOT / file).exists(), file


def test_what_is_deprecated_says_so_goes_on_and_ends(contributed):
    budget = contributed("What is public, and how it changes").budget
    with pytest.warns(FutureWarning, match="strength.*deprecated since version 0.2.0.*removed in version 0.4.0"):
        assert budget(strength=3.0) == 3.0
    assert budget(4.0) == 4.0
    text = section("What is public, and how it changes", "python").replace("version_val=__version__", "version_val='0.4.0'")
    later: dict[str, Any] = {"__name__": "later"}
    exec(text, later)  # noqa: S102
    with pytest.raises(DeprecatedError):
        later["budget"](strength=3.0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_keeps_what_the_loop_promises(contributed, victim, cases, norm):
    MomentumFGSM = contributed("An attack", "monai_advdef.attacks", "MomentumFGSM").MomentumFGSM
    threat = ThreatModel(norm=norm, eps=4.0 if norm == "linf" else 200.0)
    outcome = run(MomentumFGSM(), victim, threat, *cases)
    noise = run(Noise(), victim, threat, *cases)
    assert float(outcome.size.max()) <= threat.eps * (1 + 1e-6) and outcome.backwards == 10
    assert float(outcome.score.mean()) > 3 * float(noise.score.mean())
    assert torch.equal(run(MomentumFGSM(), victim, replace(threat, eps=0.0), *cases).adversarial, cases[0])
    forgetful = run(MomentumFGSM(decay=0.0), victim, threat, *cases).adversarial
    torch.testing.assert_close(forgetful, run(IterativeFGSM(steps=10), victim, threat, *cases).adversarial, atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="decay must be ≥ 0, got -1"):
        MomentumFGSM(decay=-1)


@pytest.mark.slow
def test_the_attack_is_asked_for_by_its_overlay(contributed, phantom_bundle, tmp_path, store):
    contributed("An attack", "monai_advdef.attacks", "MomentumFGSM")
    rows = evaluated(phantom_bundle, "An attack", tmp_path, **{"attack_def::eps": 4})
    assert set(rows["attack"]) == {"MomentumFGSM"} and float(rows["linf"].max()) <= 4 * (1 + 1e-6)


def test_the_defence_is_exact_keeps_everything_and_passes_its_gradient(contributed):
    median = contributed("A defence", "monai_advdef.defenses", "Median").Median()
    x = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0)) * 255
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    shifted = torch.stack([padded[..., i : i + 9, j : j + 12] for i in range(3) for j in range(3)])
    assert torch.equal(median(x), shifted.sort(0).values[4])
    meta = median(MetaTensor(x, meta={"filename_or_obj": "case.png"}))
    assert isinstance(meta, MetaTensor) and meta.meta["filename_or_obj"] == "case.png"
    (gradient,) = torch.autograd.grad(median(x.requires_grad_()).sum(), x)
    assert float(gradient.sum()) == x.numel()
    twin = ConfigParser({"d": median.to_config()}).get_parsed_content("d")
    assert torch.equal(twin(x.detach()), median(x.detach()))
    spoilt = x.detach().clone()
    spoilt[0, 0, 4, 4] = torch.nan
    assert int(median(spoilt).isnan().sum()) == 9


@pytest.mark.slow
def test_the_defence_stands_in_front_by_its_overlay(contributed, phantom_bundle, tmp_path, store):
    contributed("A defence", "monai_advdef.defenses", "Median")
    rows = evaluated(phantom_bundle, "A defence", tmp_path)
    assert set(rows["defense"]) == {"3x3 median"} and float(rows.loc[rows["metric"] == "dice", "value"].mean()) > 0.5


def test_the_check_tells_a_good_attack_from_a_wasteful_one(contributed, victim, cases):
    check = contributed("A check").HalvedBudget()
    image, label = (x[:3] for x in cases)
    good = check(make_subject(victim, ThreatModel(eps=8.0), image, label))
    assert good.verdict == "ok" and good.numbers["half"] <= good.numbers["whole"] + 0.01 and "grey level" in good.evidence
    assert check(make_subject(victim, ThreatModel(eps=0.0), image, label)) is None

    class Wave(torch.nn.Module):
        """Right at a distance of 0 and of 8 grey levels, wrong at 4: what changes the image most changes nothing."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            d = 5 * torch.cos(torch.pi * (x - 100) / 4)
            return torch.cat([-d, d], 1)

    label = torch.zeros(2, 1, 16, 16)
    label[..., 4:12, 4:12] = 1
    wasteful = check(make_subject(Victim(Wave()), ThreatModel(eps=8.0), 200 - 100 * label, label, attack=Noise(kind="sign")))
    assert wasteful.verdict == "suspect" and wasteful.evidence.startswith(
        "mean success 0.000 with eps 8 grey level, 1.000 with half"
    )


def test_the_network_trains_and_is_attacked(contributed, cases, monkeypatch):
    monkeypatch.setitem(NETWORKS, "plain_fcn", None)  # taken away again afterwards
    network = contributed("A network").network
    image, label = cases
    assert network(image).shape == (len(image), 2, *image.shape[2:])
    outcome = run(IterativeFGSM(steps=2), Victim(network), ThreatModel(eps=2.0), image, label)
    assert 1 <= outcome.backwards <= 2 and float(outcome.size.max()) <= 2
    made = ConfigParser(yaml.safe_load(section("A network", "yaml"))).get_parsed_content("network_def")
    assert made(torch.zeros(1, 3, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.slow
def test_the_task_is_trained_attacked_and_recorded(contributed, tmp_path, monkeypatch, store):
    for table in (TASKS, PHANTOMS):
        monkeypatch.setitem(table, "ultrasound", None)  # taken away again afterwards
    contributed("A task").write_ultrasound_phantoms(str(tmp_path / "data"), cases=16)
    told = check_folder(tmp_path / "data", task="ultrasound")
    assert not told.problems and "ultrasound" in str(told)
    bundle, overlay = bundles()["lung_xray_segmentation"], tmp_path / "ultrasound.yaml"
    overlay.write_text(section("A task", "yaml"), encoding="utf-8")
    folders = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    small = {**folders, "image_size": 32, "batch_size": 4, "val_interval": 1, "train::trainer::max_epochs": 1}
    configs = [bundle / "configs" / f"{name}.yaml" for name in ("train", "evaluate")]
    workflow(bundle, [configs[0], overlay], small).run()
    workflow(bundle, [*configs, overlay, ROOT / "workflows" / "attacks" / "fgsm.yaml"], small).run()
    rows = read_records(tmp_path / "out" / "records")
    assert set(rows["task"]) == {"breast lesion segmentation"} and "lesion" in set(rows["class"]) and set(rows["attack"]) == {"FGSM"}
