"""A 3D inference-only bundle of many classes: z-scores of what is not 0, then -1 to 1; weights by a key of their own, an average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import inference, inverted, saved
from zoo.write import about, ball, network_of, write_bundle, write_pairs

CLASSES = 12
NETWORK = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": CLASSES,
    "init_filters": 8,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume with three of the organs."""
    rng = np.random.default_rng(i)
    shape = (18, 16, 12)
    label = np.zeros(shape, np.uint8)
    for k, place in ((1, (5, 5, 5)), (4, (12, 5, 6)), (11, (9, 11, 6))):
        label[ball(shape, place, 3.2)] = k
    return (60.0 * label + 200 + 10 * rng.standard_normal(shape)).astype(np.float32), label


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data; the list is of ``imagesTs``, whose labels lie in ``labelsTs``."""
    data = folder / "data" / "totalSegmentator"
    write_pairs(data, [f"s{i:04}" for i in range(cases)], case, "imagesTs/{}.nii.gz", "labelsTs/{}.nii.gz", spacing=(1.5, 1.5, 3.0))
    before = [
        ("LoadImaged", {"keys": "@image_key"}),
        ("EnsureTyped", {"keys": "@image_key"}),
        ("EnsureChannelFirstd", {"keys": "@image_key"}),
        ("Orientationd", {"keys": "@image_key", "axcodes": "RAS"}),
        ("Spacingd", {"keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"}),
        ("NormalizeIntensityd", {"keys": "@image_key", "nonzero": True}),
        ("ScaleIntensityd", {"keys": "@image_key", "minv": -1.0, "maxv": 1.0}),
    ]
    after = [
        ("Activationsd", {"keys": "pred", "softmax": True}),
        ("AsDiscreted", {"keys": "pred", "argmax": True}),
        inverted("@preprocessing", nearest=True, orig_keys="@image_key"),
        saved(),
    ]
    window = {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 16, 16],
        "sw_batch_size": "@displayable_configs#sw_batch_size",
        "overlap": "@displayable_configs#sw_overlap",
        "padding_mode": "replicate",
        "mode": "gaussian",
        "device": "cuda:0",
    }
    file = inference(
        ["glob", "numpy", "os"],
        NETWORK,
        before,
        window,
        after,
        handlers=[{"_target_": "StatsHandler", "iteration_log": False}],
        displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        image_key="image",
        dataset_dir="sampledata",
        datalist="$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        modelname="$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        checkpointloader={
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/' + @modelname",
            "load_dict": {"ema": "@network"},
        },
        initialize=["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@checkpointloader(@evaluator)"],
    )
    names = ["background", *(f"organ {i}" for i in range(1, CLASSES))]
    bundle = write_bundle(folder / "wholeBody_ct_segmentation", {"inference": file}, about(1, names))
    average, last = network_of(NETWORK, seed=1), network_of(NETWORK, seed=2)
    held = {"model": last.state_dict(), "ema": average.state_dict(), "epoch": 5}
    torch.save(held, bundle / "models" / "model.pt")
    torch.save({"ema": last.state_dict()}, bundle / "models" / "model_lowres.pt")
    return bundle, data
