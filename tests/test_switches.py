"""Options as a person writes them: the command line hands over text for truth values, and numbers for folders called 2018."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import yaml

import monai_advdef
from monai_advdef.attacks import PGD, Attack
from monai_advdef.bundle import bundles, workflows
from monai_advdef.defenses import FrequencyRefinement
from monai_advdef.handlers import RecordHandler, TrainingTracker, writable
from monai_advdef.handlers.options import resolve
from monai_advdef.networks import NLCE, segmentation_network
from monai_advdef.study import workflow
from monai_advdef.switches import AsWritten, as_written, path, truth

CONFIGS = [p for folder in bundles().values() for p in sorted((folder / "configs").glob("*.yaml"))] + list(workflows().values())
SKIN = bundles()["skin_lesion_dermoscopy_segmentation"] / "configs"


@pytest.mark.parametrize(
    ("given", "meant"),
    [(True, True), (False, False), ("true", True), ("false", False), ("False", False), (" TRUE ", True), (np.bool_(False), False)],
)
def test_text_means_what_it_says(given, meant):
    assert truth("heads", given) is meant


@pytest.mark.parametrize("given", [1, "no", None, "", "flase", 0.0, [], "yes please"])
def test_other_values_are_refused_by_name(given):
    with pytest.raises(ValueError, match="heads must be true or false, got"):
        truth("heads", given)


def test_attacks_and_networks_take_a_written_false():
    attack, _ = resolve("PGD", None, {"eps": 8, "random_start": "false"})
    assert attack.random_start is False
    attack, _ = resolve("FieldAttack", None, {"norm": "unbounded", "per_voxel": "false"})
    assert attack.per_voxel is False
    sizes = {residual: _size(residual) for residual in (True, False, "true", "false")}
    assert sizes["true"] == sizes[True] > sizes[False] == sizes["false"]
    sizes = {nlce: _size(nlce, "unet", "nlce") for nlce in (True, False, "true", "False", "null")}
    assert sizes["true"] == sizes[True] > sizes[False] == sizes["False"] == sizes["null"]


def _size(value, name="unet2d", option="residual") -> int:
    network = segmentation_network(name, in_channels=1, out_channels=2, mean=0, std=1, **{option: value})
    return sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------ every switch of the package

THEIR_OWN = {"monai_advdef.handlers.evaluate"}


def _found(name):
    module, _, member = name.rpartition(".")
    return getattr(importlib.import_module(module), member)


def _targets():
    """Everything that a configuration file makes, and every public class beside it."""
    names = {t for p in CONFIGS for t in re.findall(r"_target_: (monai_advdef[\w.]+)", p.read_text())} - THEIR_OWN
    found = {name: _found(name) for name in names}
    for module in pkgutil.walk_packages(monai_advdef.__path__, "monai_advdef."):
        if re.search(
            r"\.(networks|defenses|attacks|handlers|corruptions|transforms|training|synthesis|diagnosis|data|papers|dicom)$",
            module.name,
        ):
            made = importlib.import_module(module.name)
            found |= {f"{module.name}.{n}": getattr(made, n) for n in getattr(made, "__all__", ())}
    return {name: value for name, value in sorted(found.items()) if callable(value)}


def _switches(value):
    """Names of the arguments that are true or false."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = {p.name: str(p.annotation) for p in parameters if "Callable" not in str(p.annotation)}
    return [name for name, kind in kinds.items() if "bool" in re.split(r"[^a-z]+", kind)]


def _settled(value):
    """What reads its arguments as they are written: the function, a constructor or that of a parent."""
    if not inspect.isclass(value):
        return getattr(value, "kinds", {})
    made: dict = {}
    for kind in value.__mro__:
        made |= getattr(vars(kind).get("__init__"), "kinds", {})
    return made


WITH_SWITCHES = {name: value for name, value in _targets().items() if _switches(value)}
# called by code alone
CODE = ("Iterate", "write_", "inspect_", "find_", "image_mask_pairs", "with_", "Disc", "ContextUNet", "organ_cross", "Sections")


@pytest.mark.parametrize("name", [n for n in WITH_SWITCHES if not n.rpartition(".")[2].startswith(CODE)])
def test_every_switch_reads_a_written_false(name):
    value = WITH_SWITCHES[name]
    if inspect.isclass(value) and issubclass(value, Attack):
        for switch in _switches(value):
            assert getattr(value(**{switch: "false"}), switch) is False
            with pytest.raises(ValueError, match=f"{switch} must be true or false, got 'flase'"):
                value(**{switch: "flase"})
        return
    fields = {f.name for f in dataclasses.fields(value)} if isinstance(value, AsWritten) else set()
    unread = set(_switches(value)) - set(_settled(value)) - fields
    assert not unread, f"{name} takes 'false' for true in {', '.join(sorted(unread))}: put @as_written above it"


def test_what_is_read_arrives_as_meant():
    assert FrequencyRefinement(clip="false").clip is False and FrequencyRefinement(round_input="true").round_input is True
    assert NLCE(8, encoder="false", non_local="False").to("cpu").gate.__class__.__name__ == "Identity"
    assert PGD(steps="20", step_size="null", momentum="0.5") == PGD(steps=20, step_size=None, momentum=0.5)
    with pytest.raises(ValueError, match="steps must be a whole number, got the text 'many'"):
        PGD(steps="many")


def test_expressions_of_the_configurations_read_switches_by_truth():
    for config in CONFIGS:
        known = {**_ids(config), **_ids(SKIN.parents[1] / config.parts[-3] / "configs" / "train.yaml")}
        switches = {name for name, value in known.items() if isinstance(value, bool)} | {"zscore", "multi", "n4"}
        for text in _expressions(yaml.safe_load(config.read_text())):
            for name in switches & set(re.findall(r"@(\w+)\b(?!::)", text)):
                assert f"truth('{name}', @{name})" in text, f"{config}: {text} takes the text 'false' for true"


def _ids(config: Path) -> dict:
    return yaml.safe_load(config.read_text()) if config.exists() else {}


def _expressions(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _expressions(part)
    elif isinstance(node, str) and node.startswith("$"):
        yield node


# ------------------------------------------------------------------ numbers, lists, nothing


@as_written
def listed(a: int = 1, b: float | None = None, c: Sequence[float] = (), d: str = "", e: bool | None = None, f: str | None = None):
    return a, b, c, d, e, f


def test_numbers_lists_and_nothing_as_text():
    assert listed("3", "1e-3", "[8, 0, 0]", "[x]", "null", "None") == (3, 0.001, [8, 0, 0], "[x]", None, None)
    assert listed(b="null", e="true", c=(1,), f="resnet18") == (1, None, (1,), "", True, "resnet18")
    for argument, value, words in (
        ("a", "3.5", "a must be a whole number, got the text '3.5'"),
        ("b", "eight", "b must be a number, got the text 'eight'"),
        ("c", "[8, 0", r"c must be a list, as \[8, 0, 0\], got the text"),
        ("e", "maybe", "e must be true or false, got 'maybe'"),
    ):
        with pytest.raises(ValueError, match=words):
            listed(**{argument: value})
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        listed(z=1)


# ------------------------------------------------------------------ folders whose name is a number


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (2018, "2018"),
        ("007", "007"),
        (-5, "-5"),
        (Path("a") / "b", os.path.join("a", "b")),
        (datetime.date(2026, 11, 26), "2026-11-26"),
        ("", ""),
        (None, ""),
        ("null", ""),
        ("~/x", os.path.expanduser("~/x")),
    ],
)
def test_a_folder_is_called_as_it_is_written(given, meant):
    assert path("dataset_dir", given) == meant


@pytest.mark.parametrize("given", [1000.0, 2018.1, float("inf"), True, ["a"], {"a": 1}, ("a", "b")])
def test_a_name_whose_spelling_is_lost_is_refused(given):
    with pytest.raises(ValueError, match=r"dataset_dir must be a file or a folder, but was read as .*--dataset_dir \./NAME"):
        path("dataset_dir", given)


def test_folders_called_by_numbers_reach_every_handler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RecordHandler(2018, ["a"]).folder == Path("2018") and RecordHandler("~/x", ["a"]).folder == Path("~/x").expanduser()
    for made in (lambda v: RecordHandler(v, ["a"]), TrainingTracker):
        with pytest.raises(ValueError, match="output_dir must be a file or a folder, but was read as the number 1000.0"):
            made(1e3)


def test_a_bundle_runs_in_folders_called_by_numbers(phantom_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, folder in ((2018, "phantom"), (7, "models")):
        Path(str(number)).symlink_to(phantom_bundle.root / folder)
    told = {"dataset_dir": 2018, "output_dir": 20261126, "ckpt_dir": 7, "image_size": 64, "keep": "adversarial"}
    files = [SKIN / "train.yaml", SKIN / "evaluate.yaml", workflows()["attacks/fgsm"]]
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        made = workflow(phantom_bundle.root, files, told)
        made.run()
    assert list(Path("20261126/records").glob("*.parquet")) and list(Path("20261126/adversarial").glob("*.npz"))
    predicted = {"dataset_dir": str(phantom_bundle.root / "phantom/images"), "output_dir": 26, "ckpt_dir": 7, "image_size": 64}
    workflow(phantom_bundle.root, [SKIN / "inference.yaml"], predicted, "inference").run()
    assert len(list(Path("26").glob("*.png"))) == 24


def test_a_bundle_runs_in_folders_called_by_signs(phantom_bundle, tmp_path, monkeypatch):
    """MONAI reads ``#`` as ``::`` in every text of a configuration."""
    monkeypatch.chdir(tmp_path)
    place = Path("Köln #1 100%?")
    place.mkdir()
    for folder in ("phantom", "models"):
        (place / folder).symlink_to(phantom_bundle.root / folder)
    told = {"dataset_dir": f"{place}/phantom", "output_dir": f"{place}/out", "ckpt_dir": f"{place}/models", "image_size": 64}
    told["keep"] = "adversarial"
    with patch.dict(os.environ):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        workflow(phantom_bundle.root, [SKIN / "train.yaml", SKIN / "evaluate.yaml", workflows()["attacks/fgsm"]], told).run()
    kinds = ("records/*.parquet", "adversarial/*.npz", "mlruns.db", "mlruns/*/artifacts/card.html")
    assert all(list((place / "out").glob(kind)) for kind in kinds) and os.listdir() == [place.name]
    predicted = {**told, "dataset_dir": f"{place}/phantom/images", "output_dir": f"{place}/predicted"}
    workflow(phantom_bundle.root, [SKIN / "inference.yaml"], predicted, "inference").run()
    assert len(list((place / "predicted").glob("*.png"))) == 24 and os.listdir() == [place.name]


def test_a_folder_that_is_there_keeps_its_colons(tmp_path):
    (tmp_path / "a::b").mkdir()
    assert path("dataset_dir", str(tmp_path / "a::b")) == str(tmp_path / "a::b")
    assert path("dataset_dir", str(tmp_path / "c::d")) == str(tmp_path / "c#d")


@pytest.mark.parametrize("option", ["dataset_dir", "output_dir", "ckpt_dir"])
def test_a_number_whose_spelling_is_lost_names_the_option(phantom_bundle, tmp_path, option):
    settings = {**phantom_bundle.settings(tmp_path), option: 1e3}
    with pytest.raises(Exception, match=r".*") as caught:
        workflow(phantom_bundle.root, [SKIN / "train.yaml", SKIN / "evaluate.yaml"], settings).run()
    said, error = [], caught.value
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    assert any(f"{option} must be a file or a folder" in words for words in said)
    assert not Path("1000.0").exists()


def test_no_configuration_joins_a_folder_as_text():
    for config in CONFIGS:
        for text in _expressions(yaml.safe_load(config.read_text())):
            for name in re.findall(r"(?<![\w(, ])@(\w+_dir|bundle_root)(?= \+)|\$@(\w+_dir|bundle_root) \+", text):
                assert "glob.glob" in text, f"{config}: {text} fails for a folder called 2018 ({name})"


@pytest.mark.parametrize("given", ["", " ", None, "null"])
def test_an_empty_folder_is_refused_before_anything_is_written(given):
    """Below it would lie the root of the disk: ``<ckpt_dir>/model.pt``."""
    with pytest.raises(
        ValueError, match="output_dir is empty, as where a variable of the shell is not set; give a folder, or . for"
    ):
        writable(output_dir=given)
    with pytest.raises(ValueError, match="output_dir is empty"):
        RecordHandler(given, ["lesion"])


def test_folders_are_tried_under_the_names_that_people_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    writable(output_dir=2018, ckpt_dir="~/models")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2018", "home"] and (tmp_path / "home" / "models").is_dir()
