"""A 3D bundle in YAML: its list names files of its author's machine, its weights a name of their own, its code is for training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from zoo.workflow import BOTH, evaluation, inverted, onehot, training
from zoo.write import about, ball, network_of, write_bundle, write_pairs

NETWORK = {
    "_target_": "monai.networks.nets.DynUNet",
    "spatial_dims": "@spatial_dims",
    "in_channels": "@input_channels",
    "out_channels": "@output_channels",
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 16],
    "norm_name": "instance",
}
THERE = "/processed/Public/CT_TotalSegmentator"


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT volume with three organs."""
    rng = np.random.default_rng(i)
    shape = (20, 18, 10)
    label = np.zeros(shape, np.uint8)
    for k, place in ((1, (6, 6, 5)), (2, (14, 6, 5)), (3, (10, 13, 5))):
        label[ball(shape, place, 3)] = k
    image = 60 * label + 20 + 10 * rng.standard_normal(shape)
    image[:, :2] = -1000
    return image.astype(np.int16), label


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data: a label is called like its image, in a folder below."""
    data = folder / "data" / "CT_TotalSegmentator"
    names = [f"TS{i}" for i in range(cases)]
    write_pairs(data, names, case, "{}.nii.gz", "TS_split/test/{}.nii.gz", spacing=(1.5, 1.5, 3.0), flipped=True)
    shaped = [
        ("LoadImaged", {"keys": BOTH, "reader": "ITKReader"}),
        ("EnsureChannelFirstd", {"keys": BOTH}),
        ("Orientationd", {"keys": BOTH, "axcodes": "RAS"}),
        ("Spacingd", {"keys": BOTH, "pixdim": [1.5, 1.5, 3.0], "mode": ["bilinear", "nearest"]}),
        ("ScaleIntensityRanged", {"keys": "image", "a_min": -250, "a_max": 400, "b_min": 0, "b_max": 1, "clip": True}),
        ("CropForegroundd", {"keys": BOTH, "source_key": "image", "mode": ["minimum", "minimum"], "allow_smaller": True}),
        ("EnsureTyped", {"keys": BOTH}),
        ("CastToTyped", {"keys": "image", "dtype": "$torch.float32"}),
    ]
    train = training(
        ["glob", "json", "os", "ignite", "from scipy import ndimage", "scripts.monai_utils", "scripts.lr_scheduler"],
        NETWORK,
        shaped,
        {"_target_": "SlidingWindowInferer", "roi_size": "@spatial_size", "sw_batch_size": 4, "mode": "constant", "overlap": 0.5},
        onehot(4),
        "@val_datalist",
        input_channels=1,
        output_channels=4,
        spatial_size=[16, 16, 8],
        spatial_dims="$len(@spatial_size)",
        n_gpu=0,
        dataset_dir=f"{THERE}/TS_split/test/",
        data_list_file_path="$@bundle_root + '/configs/TS_test.json'",
        val_datalist="$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='validation')",
        lr_scheduler={"_target_": "scripts.lr_scheduler.Warmup", "optimizer": "@optimizer"},
    )
    train["device"] = "$torch.device('cuda:' + str(@n_gpu) if torch.cuda.is_available() else 'cpu')"
    both = ["pred", "label"]
    after = [onehot(4)[0], inverted("@validate#preprocessing", keys=both, nearest=[False, True]), onehot(4)[1]]  # type: ignore[arg-type]
    files = {"train": train, "evaluate": evaluation(after, file="dynunet_FT.pt")}
    metadata = about(1, ["background", "liver", "spleen", "pancreas"])
    told = metadata["network_data_format"]["outputs"]["pred"]
    told["label_def"] = told.pop("channel_def")
    bundle = write_bundle(folder / "pediatric_abdominal_ct_segmentation", files, metadata, form="yaml")
    held = [{"image": f"{THERE}/{n}.nii.gz", "label": f"{THERE}/TS_split/test/{n}.nii.gz"} for n in names]
    (bundle / "configs" / "TS_test.json").write_text(json.dumps({"validation": held}))
    plain = {**NETWORK, "spatial_dims": 3, "in_channels": 1, "out_channels": 4}
    torch.save({"model": network_of(plain).state_dict()}, bundle / "models" / "dynunet_FT.pt")
    return bundle, data
