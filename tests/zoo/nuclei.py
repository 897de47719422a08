"""A 2D bundle whose network puts out three maps of the middle of its input: images, instances and types as arrays in .npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import evaluation, training
from zoo.write import about, ball, network_of, write_bundle

NETWORK = {"_target_": "HoVerNet", "mode": "@hovernet_mode", "in_channels": 3, "out_classes": 5, "pretrained_url": "$None"}
EVERY = ["image", "label_inst", "label_type"]
SIZE, SEEN, OUT = 280, 256, 164


def case(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (H, W, 3), instances and types (H, W, 1)."""
    rng = np.random.default_rng(i)
    instances = np.zeros((SIZE, SIZE), np.int32)
    for k in range(1, 9):
        instances[ball((SIZE, SIZE), rng.integers(80, 200, 2), 12)] = k
    image = np.where(instances[..., None] > 0, (90, 40, 120), (220, 180, 210)) + 8 * rng.standard_normal((SIZE, SIZE, 3))
    return image.clip(0, 255).astype(np.uint8), instances[..., None], ((instances > 0) * (1 + i % 4))[..., None]


def build(folder: Path, *, cases: int = 1) -> tuple[Path, Path]:
    """The bundle and its data."""
    data = folder / "data" / "CoNSeP"
    (data / "Test").mkdir(parents=True)
    for i in range(cases):
        for name, array in zip(("image", "inst_map", "type_map"), case(i)):
            np.save(data / "Test" / f"test_{i}_{name}.npy", array)
    shaped = [
        ("LoadImaged", {"keys": EVERY}),
        ("EnsureChannelFirstd", {"keys": EVERY, "channel_dim": -1}),
        ("Lambdad", {"keys": "label_inst", "func": "$lambda x: skimage.measure.label(x)"}),
        ("CastToTyped", {"keys": ["image", "label_inst"], "dtype": "$torch.int"}),
        ("CenterSpatialCropd", {"keys": ["image"], "roi_size": ["@patch_size", "@patch_size"]}),
        ("ScaleIntensityRanged", {"keys": "image", "a_min": 0.0, "a_max": 255.0, "b_min": 0.0, "b_max": 1.0, "clip": True}),
        ("ComputeHoVerMapsd", {"keys": "label_inst"}),
        ("Lambdad", {"keys": "label_inst", "func": "$lambda x: x > 0", "overwrite": "label"}),
        ("CenterSpatialCropd", {"keys": ["label", "hover_label_inst", "label_inst", "label_type"], "roi_size": ["@out_size"] * 2}),
        ("CastToTyped", {"keys": EVERY, "dtype": "$torch.float32"}),
    ]
    engine = "$monai.apps.pathology.handlers.utils.from_engine_hovernet(keys=['pred', 'label'], nested_key='nucleus_prediction')"
    lists = {n: f"$list(sorted(glob.glob(@dataset_dir + '/Test/*{n}.npy')))" for n in ("image", "inst_map", "type_map")}
    train = training(
        ["glob", "os", "skimage"],
        NETWORK,
        shaped,
        {"_target_": "SimpleInferer"},
        [],
        "$[{'image': i, 'label_inst': j, 'label_type': k} for i, j, k in zip(@image, @inst_map, @type_map)]",
        metric={"val_mean_dice": {"_target_": "MeanDice", "include_background": False, "output_transform": engine}},
        chain="$@train#deterministic_transforms",
        dataset_dir="/workspace/Data/CoNSeP/Prepared/",
        hovernet_mode="fast",
        patch_size=SEEN,
        out_size=OUT,
        **lists,
    )
    after = [
        ("Activationsd", {"keys": "nucleus_prediction", "softmax": True}),
        ("AsDiscreted", {"keys": "nucleus_prediction", "argmax": True}),
    ]
    train["train"]["postprocessing"] = {"_target_": "Lambdad", "keys": "pred", "func": "$@train#postprocessing_np"}
    train["train"]["postprocessing_np"] = {"_target_": "Compose", "transforms": [{"_target_": t, **g} for t, g in after]}
    batch = "$monai.apps.pathology.engines.utils.PrepareBatchHoVerNet(extra_keys=['label_type', 'hover_label_inst'])"
    train["validate"]["evaluator"]["prepare_batch"] = batch
    over = evaluation([], run="evaluating")
    del over["validate#postprocessing"]
    metadata = about(3, ["nothing"])
    maps = {"nucleus_prediction": ("segmentation", ["background", "nuclei"]), "horizontal_vertical": ("regression", ["h", "v"])}
    metadata["network_data_format"]["outputs"] = {
        name: {"type": "probability", "format": form, "num_channels": 3, "channel_def": dict(enumerate(names))}
        for name, (form, names) in maps.items()
    }
    bundle = write_bundle(folder / "pathology_nuclei_segmentation_classification", {"train": train, "evaluate": over}, metadata)
    torch.save({"model": network_of({**NETWORK, "mode": "fast"}).state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
