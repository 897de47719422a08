"""A 3D bundle with overlapping sigmoid regions: four series in four files, a JSON list with folds, z-scores of what is not 0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from zoo.workflow import BOTH, dice, evaluation, inverted, saved, training
from zoo.write import about, ball, network_of, teach, volume, write_bundle

NETWORK = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 4, "out_channels": 3, "channels": [8, 16], "strides": [2]}
SERIES = ("t1c", "t1", "t2", "flair")
REGIONS = ("tc", "wt", "et")


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Four series (4, X, Y, Z) and a label of 0, 1, 2, 4."""
    rng = np.random.default_rng(i)
    shape = (16, 16, 16)
    head, whole, core = ball(shape, (8, 8, 8), 7.5), ball(shape, (8, 7 + i % 3, 8), 4.5), ball(shape, (8, 7 + i % 3, 8), 2.8)
    rim = core & ~ball(shape, (8, 7 + i % 3, 8), 1.6)
    series = [
        300 + 200 * k * whole + 250 * core * (k % 2) + 150 * rim * (k == 0) + 20 * rng.standard_normal(shape) for k in range(4)
    ]
    label = np.where(rim, 4, np.where(core, 1, np.where(whole, 2, 0)))
    return (np.stack(series) * head).astype(np.float32), label.astype(np.uint8)


def build(folder: Path, *, cases: int = 4) -> tuple[Path, Path]:
    """The bundle and its data; the list names files relative to the folder of the data."""
    data = folder / "data" / "brats"
    entries = []
    for i in range(cases):
        series, label = case(i)
        names = [f"case_{i}/case_{i}_{name}.nii.gz" for name in SERIES]
        for name, array in zip(names, series):
            volume(data / name, array)
        volume(data / f"case_{i}/case_{i}_seg.nii.gz", label)
        entries.append({"fold": i % 2, "image": names, "label": f"case_{i}/case_{i}_seg.nii.gz"})
    decathlon = "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='{}', base_dir=@data_file_base_dir)"
    shaped = [
        ("LoadImaged", {"keys": BOTH}),
        ("ConvertToMultiChannelBasedOnBratsClassesd", {"keys": "label"}),
        ("NormalizeIntensityd", {"keys": "image", "nonzero": True, "channel_wise": True}),
    ]
    regions = [
        ("Activationsd", {"keys": "pred", "sigmoid": True}),
        ("AsDiscreted", {"keys": "pred", "threshold": 0.5}),
        ("SplitDimd", {"keys": ["pred", "label"], "output_postfixes": list(REGIONS)}),
    ]
    train = training(
        ["glob", "os"],
        NETWORK,
        shaped,
        {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 20], "sw_batch_size": 1, "overlap": 0.5},
        regions,
        "@val_datalist",
        metric=dice(background=True),
        chain="$@train#deterministic_transforms",
        data_list_file_path="$@bundle_root + '/configs/datalist.json'",
        data_file_base_dir="/workspace/data/medical/brats",
        train_datalist=decathlon.format("training"),
        val_datalist=decathlon.format("validation"),
    )
    after = [
        regions[0],
        inverted("@validate#preprocessing", device="@validate#evaluator#device"),
        *regions[1:],
        ("CopyItemsd", {"keys": "pred", "names": "pred_combined", "times": 1}),
        ("Lambdad", {"keys": "pred_combined", "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))"}),
        saved("pred_combined"),
    ]
    metadata = about(4, ["Tumor core", "Whole tumor", "Enhancing tumor"])
    bundle = write_bundle(
        folder / "brats_mri_segmentation", {"train": train, "evaluate": evaluation(after, run="evaluating")}, metadata
    )
    lists = {"training": [e for e in entries if e["fold"] == 0], "validation": [e for e in entries if e["fold"] == 1]}
    (bundle / "configs" / "datalist.json").write_text(json.dumps(lists))
    pairs = [case(i) for i in range(cases)]
    network = teach(network_of(NETWORK), [_scored(x) for x, _ in pairs], [_regions(y) for _, y in pairs], sigmoid=True, steps=60)
    torch.save({"model": network.state_dict()}, bundle / "models" / "model.pt")
    return bundle, data


def _scored(series: np.ndarray) -> torch.Tensor:
    x = torch.tensor(series)
    inside = x != 0
    return torch.stack([torch.where(m, (c - c[m].mean()) / c[m].std(correction=0), c) for c, m in zip(x, inside)])


def _regions(label: np.ndarray) -> torch.Tensor:
    y = torch.tensor(label)
    return torch.stack([(y == 1) | (y == 4), y > 0, y == 4])
