"""Data and labels of a bundle are found where they are, or it is said in words what is missing and how to name it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from zoo import endoscopy, gliomas, pediatric, prostate, spleen, ventricle
from zoo.workflow import inference, training
from zoo.write import volume

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


def flat(bundle: Path) -> None:
    """Let the list be every volume of the folder itself, as published bundles have it."""
    edit(bundle / "configs" / "inference.json", lambda c: c.update(datalist="$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))"))


@pytest.mark.parametrize("unlabelled", [False, True])
def test_labels_that_a_glob_finds_among_the_images_are_no_cases(given: Any, unlabelled: bool) -> None:
    bundle, data = given("ventricle")
    flat(bundle)
    for i in range(2):
        (data / "labels" / f"stack_{i}.nii.gz").rename(data / "images" / f"stack_{i}_seg.nii.gz")
    reading = read(bundle, data / "images", **({"labels": "none"} if unlabelled else {}))
    assert [Path(c["image"]).name for c in reading.overlay["deployed"]["cases"]] == ["stack_0.nii.gz", "stack_1.nii.gz"]
    assert any("2 files of the list of data are called like labels of others" in note for note in reading.notes)


def test_the_folders_of_the_decathlon_without_its_table(given: Any) -> None:
    bundle, data = given("ventricle")
    flat(bundle)
    (data / "images").rename(data / "imagesTr")
    (data / "labels").rename(data / "labelsTr")
    cases = read(bundle, data).overlay["deployed"]["cases"]
    assert [(c["case"], Path(c["label"]).parent.name) for c in cases] == [("stack_0", "labelsTr"), ("stack_1", "labelsTr")]
    for channel in (0, 1):
        shutil.copy(data / "imagesTr" / "stack_0.nii.gz", data / "imagesTr" / f"other_{channel:04d}.nii.gz")
    with pytest.raises(DataError, match=r"names no file .* nor do the files .*other_0001\.nii\.gz is called like a further channel"):
        read(bundle, data)


def test_what_metadata_and_data_set_say_of_the_unit_is_passed_on(given: Any) -> None:
    bundle, data = given("spleen")
    edit(bundle / "configs" / "metadata.json", lambda c: c["network_data_format"]["inputs"]["image"].update(modality="MR"))
    assert [s.unit for s in read(bundle, data).stated] == ["σ"]
    (data / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))
    assert [s.source for s in read(bundle, data).stated][0] == "modality CT in dataset.json"


@pytest.mark.parametrize(("evaluated", "high"), [(False, 164), (False, 99), (True, 99)])
def test_a_validation_of_a_training_that_scales_otherwise_than_the_inference(given: Any, evaluated: bool, high: int) -> None:
    bundle, data = given("spleen")
    window = {"a_min": -57.0, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    before = [("LoadImaged", {"keys": "image"}), ("EnsureChannelFirstd", {"keys": "image"})]
    use = inference(
        ["glob"],
        spleen.NETWORK,
        [*before, ("ScaleIntensityRanged", {"keys": "@image_key", **window})],
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8]},
        [("Activationsd", {"keys": "pred", "softmax": True}), ("AsDiscreted", {"keys": "pred", "argmax": True})],
        image_key="image",
        dataset_dir="/workspace/data",
        datalist="$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    )
    (bundle / "configs" / "inference.json").write_text(json.dumps(use))
    if not evaluated:
        (bundle / "configs" / "evaluate.json").unlink()
    reading = read(bundle, data)
    used = reading.facts[0].value
    assert ("inference" in used) == (not evaluated and high == 99)
    told = [note for note in reading.notes if "the inference by other numbers" in note]
    assert len(told) == (high == 99) and all("scales images by ScaleIntensityRange" in note for note in told)
    if "inference" in used:
        (data / "imagesTr").rename(data / "images_of_mine")
        with pytest.raises(DataError, match=r"(?s)the inference by other numbers.*names no file.*names no file"):
            read(bundle, data)


def test_a_label_that_is_called_like_its_image(tmp_path: Path) -> None:
    """A list of absolute paths; the user gives the folder of the images, or that of the labels, as the bundle itself does."""
    bundle, data = pediatric.build(tmp_path)
    for folder in (data, data / "TS_split" / "test"):
        cases = read(bundle, folder).overlay["deployed"]["cases"]
        assert [c["image"] for c in cases] == [str(data / f"TS{i}.nii.gz") for i in range(2)]
        assert [c["label"] for c in cases] == [str(data / "TS_split" / "test" / f"TS{i}.nii.gz") for i in range(2)]
    alone = Path(shutil.copytree(data / "TS_split" / "test", tmp_path / "alone"))
    with pytest.raises(DataError, match=r"Segmentator/TS0.nii.gz and .*/TS_split/test/TS0.nii.gz, .* both lead to one file; .*--d"):
        read(bundle, alone)
