"""What the bundles of the zoo are written with: configuration files, weights after a few steps, images and labels on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from torch import Tensor, nn

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"


def transforms(*steps: Mapping[str, Any] | tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A list of transforms: ``("LoadImaged", {"keys": "image"})`` each."""
    return [{"_target_": step[0], **step[1]} if isinstance(step, tuple) else dict(step) for step in steps]


def compose(*steps: Any) -> dict[str, Any]:
    """A ``Compose`` of them."""
    return {"_target_": "Compose", "transforms": transforms(*steps)}


def write_bundle(
    folder: Path, files: Mapping[str, dict[str, Any]], metadata: dict[str, Any] | None = None, form: str = "json"
) -> Path:
    """Configuration files (name without suffix -> content) and ``metadata.json`` in ``folder``/configs."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (folder / "models").mkdir()
    for name, content in files.items():
        text = yaml.safe_dump(content, sort_keys=False) if form == "yaml" else json.dumps(content, indent=4)
        (configs / f"{name}.{form}").write_text(text)
    if metadata is not None:
        (configs / "metadata.json").write_text(json.dumps(metadata, indent=4))
    (folder / "LICENSE").write_text("Apache-2.0\n")
    return folder


def about(inputs: int, outputs: Sequence[str], **more: Any) -> dict[str, Any]:
    """A ``metadata.json`` with the channels of the input and the names of the classes of the output."""
    image = {"type": "image", "format": "hounsfield", "num_channels": inputs, "dtype": "float32", "value_range": [0, 1]}
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(outputs),
        "channel_def": {str(i): n for i, n in enumerate(outputs)},
    }
    return {
        "version": "0.1.0",
        "monai_version": "1.4.0",
        "pytorch_version": "2.4.0",
        "numpy_version": "1.24.4",
        "task": "a segmentation",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        **more,
    }


def network_of(config: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """The network of a definition, with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    return ConfigParser({"net": dict(config)}).get_parsed_content("net")


def teach(
    network: nn.Module, images: Sequence[Tensor], labels: Sequence[Tensor], *, sigmoid: bool = False, steps: int = 40
) -> nn.Module:
    """A few steps of Adam on whole images (C, *S) and labels: class maps (*S), or for ``sigmoid`` channels (K, *S) of 0 and 1."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    network.train()
    for i in range(steps):
        at = i % len(images)
        logits = network(images[at][None])
        target = labels[at][None]
        loss = (
            nn.functional.binary_cross_entropy_with_logits(logits, target.float())
            if sigmoid
            else nn.functional.cross_entropy(logits, target.long())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def ball(shape: Sequence[int], centre: Sequence[float], radius: float) -> np.ndarray:
    """A ball (or disc) in an array of ``shape``; ``centre`` and ``radius`` in voxels."""
    grid = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, centre)) <= radius**2


def volume(path: Path, array: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0), *, flipped: bool = False) -> Path:
    """A NIfTI file; ``flipped``: its first two axes run to the left and to the back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    if flipped:
        affine[0, 0], affine[1, 1] = -affine[0, 0], -affine[1, 1]
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_pairs(
    folder: Path, names: Sequence[str], make: Callable[[int], tuple[np.ndarray, np.ndarray]], image: str, label: str, **how: Any
) -> None:
    """One image and label per name, below ``folder`` at the patterns ``image`` and ``label`` (``"imagesTr/{}.nii.gz"``)."""
    for i, name in enumerate(names):
        pixels, classes = make(i)
        volume(folder / image.format(name), pixels, **how)
        volume(folder / label.format(name), classes, **how)
