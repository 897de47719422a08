"""What is odd about a bundle or its data is settled and told, or refused in words that name file, key and remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from zoo import endoscopy, gliomas, pancreas, prostate, renal, spleen, ventricle
from zoo.workflow import training
from zoo.write import network_of, volume

from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.isolation import isolated
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


def test_data_in_another_layout(given: Any, tmp_path: Path) -> None:
    bundle, _ = given("spleen")
    data = tmp_path / "mine"
    for i in range(3):
        image, label = spleen.case(i)
        volume(data / "images" / f"scan{i}.nii.gz", image)
        volume(data / "masks" / f"scan{i}.nii.gz", label)
    reading = read(bundle, data)
    assert [c["case"] for c in reading.overlay["deployed"]["cases"]] == ["scan0", "scan1", "scan2"]
    assert any("names no file" in note and "images/ with their labels beside" in note for note in reading.notes)


def test_data_that_nothing_tells(given: Any, tmp_path: Path) -> None:
    bundle, _ = given("spleen")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"validate#dataset#data in configs/train\.json names no file in .*; give by --dataset_dir"):
        read(bundle, tmp_path / "empty")
    with pytest.raises(DataError, match="is not a folder"):
        read(bundle, tmp_path / "missing")


def test_images_and_labels_by_patterns(given: Any, tmp_path: Path) -> None:
    bundle, _ = given("spleen")
    data = tmp_path / "mine"
    for i in range(2):
        image, label = spleen.case(i)
        volume(data / f"p{i}" / "ct.nii.gz", image)
        volume(data / f"p{i}" / "spleen.nii.gz", label)
    cases = read(bundle, data, images=["{case}/ct.nii.gz"], labels=["{case}/spleen.nii.gz"]).overlay["deployed"]["cases"]
    assert [(c["case"], Path(c["label"]).name) for c in cases] == [("p0", "spleen.nii.gz"), ("p1", "spleen.nii.gz")]


def test_labels_by_a_pattern(given: Any) -> None:
    bundle, data = given("ventricle")
    (data / "labels").rename(data / "contours")
    with pytest.raises(DataError, match=r"2 of 2 images have no label.*--labels.*--labels none"):
        read(bundle, data)
    cases = read(bundle, data, labels="contours/{case}.nii.gz").overlay["deployed"]["cases"]
    assert [Path(c["label"]).parent.name for c in cases] == ["contours"] * 2


def test_without_labels(given: Any) -> None:
    bundle, data = given("ventricle")
    shutil.rmtree(data / "labels")
    reading = read(bundle, data, labels="none")
    assert all("label" not in case for case in reading.overlay["deployed"]["cases"])
    assert "preprocessing" not in reading.overlay  # as it is deployed


def test_labels_of_other_values_are_refused(given: Any) -> None:
    bundle, data = given("ventricle")
    image, label = ventricle.case(0)
    volume(data / "labels" / "stack_0.nii.gz", label * 50)
    with pytest.raises(DataError, match=r"stack_0\.nii\.gz holds the values .*the network has 4 channels"):
        read(bundle, data)


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


def test_renamed_keys(given: Any) -> None:
    bundle, data = given("spleen")
    text = (bundle / "configs" / "train.json").read_text()
    for old, new in (("image", "ct"), ("label", "seg")):
        text = text.replace(f'"{old}"', f'"{new}"').replace(f"'{old}':", f"'{new}':")
    content = json.loads(text)
    content["validate"]["evaluator"]["prepare_batch"] = "$lambda b, device, non_blocking: (b['ct'].to(device), b['seg'].to(device))"
    (bundle / "configs" / "train.json").write_text(json.dumps(content))
    (bundle / "configs" / "evaluate.json").write_text(json.dumps({"validate#dataset#cache_rate": 0}))
    deployed = read(bundle, data).overlay["deployed"]
    assert (deployed["image_key"], deployed["label_key"]) == ("ct", "seg")
    assert {"ct", "seg", "case", "patient"} == deployed["cases"][0].keys()


def test_a_table_that_is_not_there(given: Any) -> None:
    bundle, data = given("prostate")
    (data / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv: no such file"):
        read(bundle, data)


def test_scans_of_ones_own_without_labels(given: Any, tmp_path: Path) -> None:
    bundle, _ = given("spleen")
    scans = tmp_path / "scans"
    for i in range(2):
        volume(scans / f"patient{i}.nii.gz", spleen.case(i)[0])
    reading = read(bundle, scans, labels="none")
    assert [c.keys() for c in reading.overlay["deployed"]["cases"]] == [{"case", "patient", "image"}] * 2
    assert any("in its place, the cases are the images of scans/: 2" in note for note in reading.notes)
    assert len(read(bundle, scans, labels="none", images=["{case}1.nii.gz"]).overlay["deployed"]["cases"]) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image is there; say by --images"):
        read(bundle, tmp_path / "empty", labels="none")


def test_the_list_of_the_bundle_without_its_labels(given: Any) -> None:
    bundle, data = given("spleen")
    reading = read(bundle, data, labels="none")
    assert [c.keys() for c in reading.overlay["deployed"]["cases"]] == [{"case", "patient", "image"}] * 2


def test_a_list_that_lies_beside_the_data(tmp_path: Path) -> None:
    bundle, data = gliomas.build(tmp_path)
    (bundle / "configs" / "datalist.json").rename(data / "datalist.json")
    assert len(read(bundle, data).overlay["deployed"]["cases"]) == 2


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


def test_masks_that_went_through_jpeg(tmp_path: Path) -> None:
    bundle, data = endoscopy.build(tmp_path)
    both = ["image", "label"]
    shaped = [
        ("LoadImaged", {"keys": both}),
        ("EnsureChannelFirstd", {"keys": "image", "channel_dim": -1}),
        ("EnsureChannelFirstd", {"keys": "label", "channel_dim": "no_channel"}),
        ("Resized", {"keys": both, "spatial_size": [32, 24], "mode": ["bilinear", "nearest"]}),
        ("ScaleIntensityd", {"keys": both}),
    ]
    content = training(
        ["glob", "os"],
        endoscopy.NETWORK,
        shaped,
        {"_target_": "SimpleInferer"},
        [("AsDiscreted", {"argmax": [True, False], "to_onehot": [2, 2], "keys": ["pred", "label"]})],
        "$[{'image': i, 'label': i.replace('.jpg', '_seg.jpg')} for i in @images]",
        dataset_dir="/workspace",
        images="$sorted(glob.glob(os.path.join(@dataset_dir, 'test', '*', '*[!seg].jpg')))",
    )
    (bundle / "configs" / "train.json").write_text(json.dumps(content))
    reading = read(bundle, data)
    case = ConfigParser(isolated(reading)).get_parsed_content("deployed::preprocessing")(
        dict(reading.overlay["deployed"]["cases"][0])
    )
    assert set(torch.unique(torch.as_tensor(case["label"])).tolist()) == {0.0, 1.0}
    assert any("behind the point is cut off" in note for note in reading.notes)


def test_folders_of_other_names(given: Any) -> None:
    bundle, data = given("spleen")

    def rename(content: dict[str, Any]) -> None:
        del content["dataset_dir"]
        content.update(images_root="/home/someone/imagesTr", truth_dir="/home/someone/labelsTr")
        for key, folder in (("images", "images_root"), ("labels", "truth_dir")):
            content[key] = f"$sorted(glob.glob(@{folder} + '/*.nii.gz'))"

    edit(bundle / "configs" / "train.json", rename)
    reading = read(bundle, data)
    assert reading.overlay["images_root"] == str(data / "imagesTr")
    assert [c["case"] for c in reading.overlay["deployed"]["cases"]] == ["spleen_3", "spleen_4"]


def test_a_pattern_that_begins_with_its_placeholder() -> None:
    options = AuditOptions(output_dir="out", images="{case}/ct.nii.gz", labels="['{case}/a.nii.gz', '{case}/b.nii.gz']")
    assert (options.images, options.labels) == (["{case}/ct.nii.gz"], ["{case}/a.nii.gz", "{case}/b.nii.gz"])
