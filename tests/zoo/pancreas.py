"""A 3D bundle in YAML with a searched network: its architecture is read by ``torch.load`` onto a GPU; keys are references."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from zoo.workflow import evaluation, inverted, onehot, saved, training
from zoo.write import about, ball, network_of, teach, write_bundle, write_pairs

LOW, HIGH = -87, 199
KEYS = ["@image_key", "@label_key"]
CHANNELS = [4, 8]
NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": "@input_channels",
    "out_channels": "@output_classes",
    "channels": "$@arch_ckpt['channels'].tolist()",
    "strides": ["$int(@arch_ckpt['stride'])"],
}


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT volume in HU with an organ and a tumour in it."""
    rng = np.random.default_rng(i)
    shape = (20, 20, 12)
    organ, tumour = ball(shape, (10, 9 + i % 3, 6), 5.5), ball(shape, (10, 9 + i % 3, 6), 2.5)
    image = np.where(tumour, 20.0, np.where(organ, 120.0, -20.0)) + 12 * rng.standard_normal(shape)
    return image.astype(np.int16), (organ.astype(np.uint8) + tumour).astype(np.uint8)


def build(folder: Path, *, cases: int = 4) -> tuple[Path, Path]:
    """The bundle and its data; its JSON list says which half is for validation."""
    data = folder / "data" / "Task07_Pancreas"
    names = [f"pancreas_{i:03}" for i in range(cases)]
    write_pairs(data, names, case, "imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz", spacing=(1.0, 1.0, 1.5))
    shaped = [
        ("LoadImaged", {"keys": KEYS}),
        ("EnsureChannelFirstd", {"keys": KEYS}),
        ("Orientationd", {"keys": KEYS, "axcodes": "RAS"}),
        ("Spacingd", {"keys": KEYS, "pixdim": [1, 1, 1], "mode": ["bilinear", "nearest"], "align_corners": [True, True]}),
        ("CastToTyped", {"keys": "@image_key", "dtype": "$torch.float32"}),
        ("ScaleIntensityRanged", {"keys": "@image_key", "a_min": LOW, "a_max": HIGH, "b_min": 0, "b_max": 1, "clip": True}),
        ("CastToTyped", {"keys": KEYS, "dtype": ["$np.float16", "$np.uint8"]}),
        ("CopyItemsd", {"keys": "@label_key", "times": 1, "names": ["label4crop"]}),
        (
            "Lambdad",
            {
                "keys": "label4crop",
                "func": "$lambda x, s=@output_classes: np.concatenate(tuple([ndimage.binary_dilation((x==_k).astype(x.dtype), "
                "iterations=2).astype(float) for _k in range(s)]), axis=0)",
                "overwrite": True,
            },
        ),
        ("EnsureTyped", {"keys": KEYS}),
        ("CastToTyped", {"keys": "@image_key", "dtype": "$torch.float32"}),
        ("SpatialPadd", {"keys": [*KEYS, "label4crop"], "spatial_size": [16, 16, 16], "mode": ["reflect", "constant", "constant"]}),
    ]
    decathlon = "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='validation',\n  base_dir=@dataset_dir)"
    train = training(
        ["glob", "json", "os", "ignite", "from scipy import ndimage"],
        NETWORK,
        shaped,
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 6, "overlap": 0.625},
        onehot(3),
        "@val_datalist",
        input_channels=1,
        output_classes=3,
        arch_ckpt_path="$@bundle_root + '/models/search_code_18590.pt'",
        arch_ckpt="$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
        bundle_root="/workspace/MONAI/model-zoo/models/pancreas_ct_dints_segmentation",
        dataset_dir="/workspace/data/msd/Task07_Pancreas",
        data_list_file_path="$@bundle_root + '/configs/dataset_0.json'",
        val_datalist=decathlon,
        image_key="image",
        label_key="label",
    )
    both = ["pred", "label"]
    after = [
        onehot(3)[0],
        inverted("@validate#preprocessing", keys=both, nearest=[False, True], meta_key_postfix="meta_dict"),  # type: ignore[arg-type]
        onehot(3)[1],
        ("CopyItemsd", {"keys": "pred", "times": 1, "names": "pred_save"}),
        ("AsDiscreted", {"keys": ["pred_save"], "argmax": [True]}),
        saved("pred_save"),
    ]
    over = {"validate#dataset": {"_target_": "Dataset", "data": "@val_datalist", "transform": "@validate#preprocessing"}}
    metadata = about(1, ["background", "pancreas", "pancreatic tumor"])
    files = {"train": train, "evaluate": evaluation(after, **over)}
    bundle = write_bundle(folder / "pancreas_ct_dints_segmentation", files, metadata, form="yaml")
    half = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in names]
    (bundle / "configs" / "dataset_0.json").write_text(json.dumps({"training": half[::2], "validation": half[1::2], "testing": []}))
    torch.save({"channels": np.array(CHANNELS), "stride": np.int64(2)}, bundle / "models" / "search_code_18590.pt")
    plain = {**NETWORK, "in_channels": 1, "out_channels": 3, "channels": CHANNELS, "strides": [2]}
    images = [(torch.tensor(case(i)[0], dtype=torch.float32)[None] - LOW).div(HIGH - LOW).clamp(0, 1) for i in range(cases)]
    network = teach(network_of(plain), images, [torch.tensor(case(i)[1]) for i in range(cases)])
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle, data
