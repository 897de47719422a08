"""A 3D bundle with code of its own: three scans joined to one image, sigmoid channels with one for the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import dice, evaluation, inverted, training
from zoo.write import about, ball, network_of, volume, write_bundle

NETWORK = {"_target_": "SegResNet", "in_channels": 3, "out_channels": 4, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
PHASES = ["artery", "vein", "excret"]
EVERY = [*PHASES, "label"]
JOIN = '''"""Joins scans to one image."""

import numpy as np
from monai.transforms import InvertibleTransform, MapTransform


class ConcatImages(MapTransform, InvertibleTransform):
    """The channels of several keys under one; it has no keys of its own, and leaves arrays."""

    def __init__(self, keys_merge, keys_out, allow_missing_keys=True):
        self.keys_merge, self.keys_out, self.allow_missing_keys = keys_merge, keys_out, allow_missing_keys

    def __call__(self, data):
        data[self.keys_out] = np.concatenate([data[k] for k in self.keys_merge])
        return data

    def inverse(self, data):
        return data
'''


def case(i: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three phases in HU and a label of 0..4, of which 3 and 4 are one class."""
    rng = np.random.default_rng(i)
    shape = (16, 16, 10)
    kidney, vessel, tumour = ball(shape, (6, 8, 5), 4), ball(shape, (12, 8, 5), 2), ball(shape, (6, 9, 5), 1.8)
    label = np.where(tumour, 3 + (i % 2), np.where(kidney, 1, np.where(vessel, 2, 0)))
    phases = [30 + (60 + 40 * k) * kidney + (200 - 60 * k) * vessel + 10 * rng.standard_normal(shape) for k in range(3)]
    return [p.astype(np.int16) for p in phases], label.astype(np.uint8)


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data, a folder a patient."""
    data = folder / "data" / "kidneys"
    for i in range(cases):
        phases, label = case(i)
        for name, array in zip(("12", "22-", "32-"), phases):
            volume(data / f"p{i}" / f"{name}.nii.gz", array)
        volume(data / f"p{i}" / "merged.nii.gz", label)
    shaped = [
        ("LoadImaged", {"keys": EVERY, "dtype": "float32"}),
        ("EnsureChannelFirstd", {"keys": EVERY}),
        ("MapLabelValued", {"keys": "label", "orig_labels": [0, 1, 2, 3, 4], "target_labels": [0, 1, 2, 3, 3]}),
        ("Spacingd", {"keys": EVERY, "pixdim": [1.0, 1.0, 1.0], "mode": ["bilinear", "bilinear", "bilinear", "nearest"]}),
        ("ScaleIntensityRanged", {"keys": PHASES, "a_min": -1000, "a_max": 1000, "b_min": 0.0, "b_max": 1.0, "clip": True}),
        ("scripts.my_transforms.ConcatImages", {"keys_merge": PHASES, "keys_out": "image"}),
    ]
    regions = [
        ("Activationsd", {"keys": "pred", "softmax": False, "sigmoid": True}),
        ("AsDiscreted", {"keys": ["pred", "label"], "argmax": [False, False], "to_onehot": [None, 4], "threshold": [0.5, None]}),
    ]
    globs = ", ".join(f"glob.glob(@dataset_dir + '/*/{name}.nii.gz')" for name in ("12", "22-", "32-"))
    train = training(
        ["glob", "os", "ignite"],
        NETWORK,
        shaped,
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.25},
        regions,
        "$[{'label': l, **i} for i, l in zip(@images, @labels)]",
        metric=dice(),
        chain="$@train#deterministic_transforms",
        dataset_dir="$@bundle_root + '/data'",
        images=f"$[{{'artery': a, 'vein': b, 'excret': c}} for a, b, c in zip({globs})]",
        labels="$list(glob.glob(@dataset_dir + '/*/merged.nii.gz'))",
    )
    metadata = about(3, ["background", "kidney", "vessel", "tumor"])
    both = {"keys": ["pred", "label"], "orig_keys": ["artery", "label"], "nearest": [False, True], "device": "@device"}
    back = inverted("@validate#preprocessing", **both)  # type: ignore[arg-type]
    files = {"train": train, "evaluate": evaluation([back, *regions], run="evaluate")}
    bundle = write_bundle(folder / "renalStructures_CECT_segmentation", files, metadata)
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "my_transforms.py").write_text(JOIN)
    torch.save({"model": network_of(NETWORK).state_dict()}, bundle / "models" / "model.pt")
    return bundle, data
