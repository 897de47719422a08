"""A 3D inference-only bundle with a network of its own code, and switches written as text ('True')."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.workflow import inference, inverted, loader, onehot, saved
from zoo.write import about, ball, write_bundle, write_pairs

NET = '''"""A small network."""

from torch import nn


class Stem(nn.Module):
    """Two convolutions."""

    def __init__(self, in_channels, out_channels, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, out_channels, 1))

    def forward(self, x):
        return self.body(x)
'''
CLASSES = 5


def case(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A T1 volume, 0 outside the head, with four structures."""
    rng = np.random.default_rng(i)
    shape = (18, 18, 14)
    head = ball(shape, (9, 9, 7), 6.5)
    label = np.zeros(shape, np.uint8)
    for k, place in enumerate(((6, 9, 7), (12, 9, 7), (9, 6, 7), (9, 12, 7)), start=1):
        label[ball(shape, place, 1.8)] = k
    return (head * (100 + 40 * label + 8 * rng.standard_normal(shape))).astype(np.float32), label


def build(folder: Path, *, cases: int = 2) -> tuple[Path, Path]:
    """The bundle and its data: ``images/`` with ``labels/``."""
    data = folder / "data" / "brains"
    write_pairs(data, [f"t1_{i}" for i in range(cases)], case, "images/{}.nii.gz", "labels/{}.nii.gz")
    before = [
        ("LoadImaged", {"keys": "image"}),
        ("EnsureChannelFirstd", {"keys": "image"}),
        ("NormalizeIntensityd", {"keys": "image", "nonzero": "True", "channel_wise": "True"}),
        ("EnsureTyped", {"keys": "image"}),
    ]
    after = [onehot(CLASSES)[0], inverted("@preprocessing"), ("AsDiscreted", {"keys": "pred", "argmax": True}), saved()]
    network = {"_target_": "scripts.networks.stem.Stem", "in_channels": 1, "out_channels": CLASSES}
    use = inference(
        ["glob", "os"],
        network,
        before,
        {"_target_": "SlidingWindowInferer", "roi_size": [12, 12, 12], "sw_batch_size": 4, "overlap": 0.7},
        after,
        handlers=[loader(strict="True"), {"_target_": "StatsHandler", "iteration_log": False}],
        run="evaluating",
        dataset_dir="$@bundle_root + '/dataset/images'",
        datalist="$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    )
    names = ["background", "3rd-Ventricle", "4th-Ventricle", "Right-Accumbens-Area", "Left-Accumbens-Area"]
    bundle = write_bundle(folder / "wholeBrainSeg_segmentation", {"inference": use}, about(1, names))
    (bundle / "scripts" / "networks").mkdir(parents=True)
    for package in (bundle / "scripts", bundle / "scripts" / "networks"):
        (package / "__init__.py").write_text("")
    (bundle / "scripts" / "networks" / "stem.py").write_text(NET)
    made: dict[str, type] = {}
    exec(NET, made)  # noqa: S102  (the text above)
    torch.manual_seed(0)
    torch.save({"model": made["Stem"](1, CLASSES).state_dict()}, bundle / "models" / "model.pt")
    return bundle, data / "images"
