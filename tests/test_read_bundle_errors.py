"""What is odd about a bundle or its data is settled and told, or refused in words that name file, key and remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import endoscopy, pancreas, prostate, renal, spleen, ventricle
from zoo.write import network_of

from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {m.__name__: m.build(tmp_path_factory.mktemp("made")) for m in (spleen, endoscopy, prostate, ventricle)}


@pytest.fixture
def given(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """A copy of a bundle, to be changed, and of its data."""

    def of(name: str) -> tuple[Path, Path]:
        bundle, data = made[f"zoo.{name}"]
        return Path(shutil.copytree(bundle, tmp_path / bundle.name)), Path(shutil.copytree(data, tmp_path / "data" / data.name))

    return of


def read(bundle: Path, data: Path, **more: Any) -> Reading:
    return read_bundle(bundle, AuditOptions(dataset_dir=str(data), output_dir=str(bundle.parent / "out"), device="cpu", **more))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"is no MONAI bundle: it has no configs/.*notes\.txt.*give the folder of the bundle"):
        read(tmp_path, tmp_path)
    with pytest.raises(DataError, match="neither a folder nor a zip file"):
        read(tmp_path / "notes.txt", tmp_path)


def test_a_folder_that_holds_the_bundle_alone(given: Any, tmp_path: Path) -> None:
    bundle, data = given("spleen")
    assert read(bundle.parent, data).root == bundle.resolve()


@pytest.mark.parametrize("sign", ["#", "::"])
def test_an_item_that_is_set_is_set_in_either_of_monais_forms(given: Any, sign: str) -> None:
    bundle, data = given("spleen")
    made = read(bundle, data, overrides=[f"validate{sign}inferer{sign}overlap=0.125"])
    assert next(f.value for f in made.facts if f.field == "validate::inferer::overlap") == "0.125"
    assert "overlap=0.125" in next(f.value for f in made.facts if f.field == "inferer")
    assert made.overlay["validate::inferer::overlap"] == 0.125


def test_a_broken_file_is_named(given: Any) -> None:
    bundle, data = given("spleen")
    (bundle / "configs" / "train.json").write_text("{")
    with pytest.raises(DataError, match=r"train\.json is no configuration that can be read"):
        read(bundle, data)


def test_a_bundle_without_an_evaluator(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "train.json", lambda c: c["validate"].pop("evaluator"))
    with pytest.raises(DataError, match="has no evaluator.*audit its network as a module"):
        read(bundle, data)


def test_weights_that_are_not_there(given: Any) -> None:
    bundle, data = given("spleen")
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(DataError, match=r"no weights.*model\.pt.*models/ holds no \*\.pt.*large_files\.yml"):
        read(bundle, data)


def test_weights_under_another_name_are_told(given: Any) -> None:
    bundle, data = given("spleen")
    (bundle / "models" / "model.pt").rename(bundle / "models" / "best_metric.pth")
    reading = read(bundle, data)
    assert reading.overlay["deployed"]["checkpoint"]["path"].endswith("best_metric.pth")
    assert any("best_metric.pth" in note for note in reading.notes)


def test_weights_of_another_network(given: Any) -> None:
    bundle, data = given("spleen")
    state = network_of({**spleen.NETWORK, "out_channels": 3}).state_dict()
    torch.save({"model": state}, bundle / "models" / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt: .* has the shape .*, the network's is"):
        read(bundle, data)
    torch.save({"model": {"other.weight": torch.zeros(1)}}, bundle / "models" / "model.pt")
    with pytest.raises(DataError, match=r"does not fit the network.*are not in it.*1 of it are not the network's \(other\.weight\)"):
        read(bundle, data)


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "network::weights": lambda s: {"network": {"weights": s, "step": 1}},
    "ema": lambda s: {"ema": s},
    "model": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}, "best": torch.tensor(0.9).numpy()},
}


@pytest.mark.parametrize("key", WRAPPED)
def test_weights_are_found_where_they_are_nested(key: str, given: Any) -> None:
    bundle, data = given("spleen")
    path = bundle / "models" / "model.pt"
    torch.save(WRAPPED[key](torch.load(path)["model"]), path)
    assert read(bundle, data).overlay["deployed"]["checkpoint"] == {"path": str(path), "key": key}


def test_names_of_a_lightning_module_are_left_out(given: Any) -> None:
    bundle, data = given("spleen")
    path = bundle / "models" / "model.pt"
    state = torch.load(path)["model"]
    torch.save({"state_dict": {f"net.{k}": v for k, v in state.items()}}, path)
    checkpoint = read(bundle, data).overlay["deployed"]["checkpoint"]
    written = Path(checkpoint["path"])
    assert written.is_relative_to(bundle.parent / "out")
    assert torch.load(written).keys() == state.keys()


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"_target_": "monai.networks.nets.VISTA3D", "image_encoder": None}, "VISTA3D"),
        ({"_target_": "monai.networks.nets.cell_sam_wrapper.CellSamWrapper", "checkpoint": "x"}, "CellSamWrapper"),
        ("$monai.networks.nets.vista3d132(in_channels=1)", "vista3d132"),
    ],
)
def test_promptable_networks_are_refused(network: Any, named: str, given: Any) -> None:
    bundle, data = given("endoscopy")
    edit(bundle / "configs" / "inference.json", lambda c: c.update(network_def=network))
    with pytest.raises(DataError, match=f"{named}.* waits for prompts"):
        read(bundle, data)


def test_an_evaluator_that_clicks_is_refused(given: Any) -> None:
    bundle, data = given("spleen")
    edit(
        bundle / "configs" / "train.json", lambda c: c["validate"]["evaluator"].update(iteration_update={"_target_": "Interaction"})
    )
    with pytest.raises(DataError, match=r"'Interaction' waits for prompts"):
        read(bundle, data)


def test_an_argument_without_effect_is_left_out(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "train.json", lambda c: c["train"]["deterministic_transforms"][1].update(meta_keys="image_meta_dict"))
    reading = read(bundle, data)
    assert any("EnsureChannelFirstd takes no 'meta_keys'" in note for note in reading.notes)
    edit(bundle / "configs" / "train.json", lambda c: c["network_def"].update(filters=3))
    with pytest.raises(DataError, match=r"network_def in configs/train\.json: UNet of MONAI .* takes no 'filters'"):
        read(bundle, data)


def test_the_size_that_swin_unetr_took_once_is_left_out(given: Any) -> None:
    pytest.importorskip("einops")
    bundle, data = given("spleen")
    network = {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 2, "feature_size": 12}
    torch.save({"model": network_of(network).state_dict()}, bundle / "models" / "model.pt")
    edit(bundle / "configs" / "train.json", lambda c: c.update(network_def={**network, "img_size": 96, "spatial_dims": 3}))
    assert any("SwinUNETR takes no 'img_size' (since MONAI 1.5)" in note for note in read(bundle, data).notes)


def test_a_package_that_is_missing(given: Any) -> None:
    bundle, data = given("spleen")

    def use(content: dict[str, Any]) -> None:
        content["imports"].append("$import no_such_package")
        extra = {"_target_": "Lambdad", "keys": "label", "func": "$lambda x: no_such_package.label(x)"}
        content["train"]["deterministic_transforms"].insert(2, extra)

    edit(bundle / "configs" / "train.json", use)
    with pytest.raises(
        DataError, match=r"wants the package no_such_package, which is not installed; run: pip install no_such_package"
    ):
        read(bundle, data, trust=True)


def test_a_configuration_for_a_gpu_is_computed_here(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "train.json", lambda c: c.update(device="$torch.device('cuda:0')", network="$@network_def.cuda()"))
    reading = read(bundle, data)
    assert reading.overlay["network"] == "$@network_def.to('cpu')"
    assert any("made for a GPU, computed on cpu here" in note for note in reading.notes)


def test_a_reference_that_leads_nowhere(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "train.json", lambda c: c.update(network="$@network_deff.to(@device)"))
    with pytest.raises(DataError, match="nothing is called 'network_deff'; did you mean 'network_def'"):
        read(bundle, data)


def test_heads_and_classes_that_nothing_tells(given: Any) -> None:
    bundle, data = given("endoscopy")
    metadata = bundle / "configs" / "metadata.json"
    metadata.unlink()
    assert read(bundle, data).overlay["deployed"]["classes"] == ["foreground"]
    assert read(bundle, data, classes=["tool"]).overlay["deployed"]["classes"] == ["tool"]
    with pytest.raises(ValueError, match="1 foreground classes, classes names 2"):
        read(bundle, data, classes=["a", "b"])
    edit(bundle / "configs" / "inference.json", lambda c: c.pop("postprocessing") and c["evaluator"].pop("postprocessing"))
    with pytest.raises(DataError, match="say so by --activation"):
        read(bundle, data)
    deployed = read(bundle, data, activation="sigmoid").overlay["deployed"]
    assert (deployed["activation"], deployed["classes"]) == ("sigmoid", ["class 0", "class 1"])


def test_random_preprocessing_is_refused(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "train.json", lambda c: c["validate"]["dataset"].update(transform="@train#preprocessing"))
    with pytest.raises(DataError, match=r"draws at random \(RandFlipd\)"):
        read(bundle, data)


def test_an_architecture_file_of_another_machine(tmp_path: Path) -> None:
    bundle, data = pancreas.build(tmp_path)
    train = bundle / "configs" / "train.yaml"
    train.write_text(train.read_text().replace("$@bundle_root + '/models/search_code_18590.pt'", "/workspace/search_code_18590.pt"))
    assert read(bundle, data).overlay["arch_ckpt_path"] == str(bundle.resolve() / "models" / "search_code_18590.pt")


def test_an_inversion_through_a_copy_of_the_preprocessing(tmp_path: Path) -> None:
    bundle, data = renal.build(tmp_path)
    text = (bundle / "configs" / "evaluate.json").read_text()
    (bundle / "configs" / "evaluate.json").write_text(text.replace("@validate#preprocessing", "%validate#preprocessing"))
    reading = read(bundle, data, trust=True)
    assert reading.overlay["validate::postprocessing"]["transforms"][0]["transform"] == "@validate::preprocessing"
    assert any("an inversion has a copy of the preprocessing" in note for note in reading.notes)
