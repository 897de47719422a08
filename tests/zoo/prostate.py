"""A 3D bundle whose lists are columns of a CSV file: scaled by its extremes, then standardised; the largest components are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import BOTH, inference, inverted, onehot, saved, training
from zoo.write import about, ball, network_of, teach, write_bundle, write_pairs

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "norm": "batch",
    "act": "prelu",
    "dropout": 0.15,
}


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A T2 volume with two zones."""
    rng = np.random.default_rng(i)
    shape = (16, 16, 8)
    gland, zone = ball(shape, (8, 8, 4), 5), ball(shape, (8, 8 + i % 2, 4), 2.5)
    image = 100 + 150 * gland + 200 * zone + 20 * rng.standard_normal(shape)
    return image.astype(np.float32), (gland.astype(np.uint8) + zone).astype(np.uint8)


def build(folder: Path, *, cases: int = 4) -> tuple[Path, Path]:
    """The bundle and its data; ``train.csv`` names the files, and the last two are for validation."""
    data = folder / "data" / "prostate158_train"
    names = [f"{i:03}" for i in range(cases)]
    write_pairs(data, names, case, "train/{}/t2.nii.gz", "train/{}/t2_anatomy_reader1.nii.gz", spacing=(0.5, 0.5, 1.0))
    rows = [f"{n},train/{n}/t2.nii.gz,train/{n}/t2_anatomy_reader1.nii.gz" for n in names]
    (data / "train.csv").write_text("\n".join(["ID,t2,t2_anatomy_reader1", *rows]) + "\n")
    spaced = {"pixdim": [0.5, 0.5, 0.5]}
    shaped = [
        ("LoadImaged", {"keys": BOTH}),
        ("EnsureChannelFirstd", {"keys": BOTH}),
        ("Orientationd", {"keys": BOTH, "axcodes": "RAS"}),
        ("Spacingd", {"keys": BOTH, **spaced, "mode": ["bilinear", "nearest"]}),
        ("ScaleIntensityd", {"keys": "image", "minv": 0, "maxv": 1}),
        ("NormalizeIntensityd", {"keys": "image"}),
        ("EnsureTyped", {"keys": BOTH}),
    ]
    alone = [(name, {**given, "keys": "image"} | ({"mode": "bilinear"} if "mode" in given else {})) for name, given in shaped]
    window = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5}
    table = {"dataset_dir": "/home/someone/prostate158/prostate158_train/"}
    train = training(
        ["import pandas as pd", "os", "ignite"],
        NETWORK,
        shaped,
        window,
        onehot(3),
        "$[{'image': i, 'label': l} for i, l in zip(@images[-2:], @labels[-2:])]",
        **table,
        images="$list(@dataset_dir + pd.read_csv(@dataset_dir + 'train.csv').t2)",
        labels="$list(@dataset_dir + pd.read_csv(@dataset_dir + 'train.csv').t2_anatomy_reader1)",
    )
    largest = ("KeepLargestConnectedComponentd", {"keys": "pred", "applied_labels": [1, 2]})
    after = [("AsDiscreted", {"keys": "pred", "argmax": True}), largest, inverted("@preprocessing"), saved()]
    use = inference(
        ["import pandas as pd", "os"],
        NETWORK,
        alone,
        window,
        after,
        **table,
        datalist="$list(@dataset_dir + pd.read_csv(@dataset_dir + 'test.csv').t2)",
    )
    metadata = about(1, ["background", "prostate_inner", "prostate_outer"])
    bundle = write_bundle(folder / "prostate_mri_anatomy", {"train": train, "inference": use}, metadata)
    images = [torch.tensor(case(i)[0])[None] for i in range(cases)]
    network = teach(
        network_of(NETWORK), [(x - x.mean()) / x.std() for x in images], [torch.tensor(case(i)[1]) for i in range(cases)]
    )
    torch.save({"model": network.state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
