"""What an evaluation holds in memory: a bundle's own, attack and card included, on few and on many generated cases.

Every measurement is one evaluation in a process of its own, whose peak resident memory the system counts (imports included).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import child, peak_memory

IMAGES, VOLUMES = (200, 2000), (5, 20)
SIDE, NATIVE = 64, (240, 240, 155)
MIB = 2**20
SKIN, GLIOMA = "skin_lesion_dermoscopy_segmentation", "glioma_mri_segmentation"


def main(*, quick: bool = False) -> None:
    few, many = (50, 250) if quick else IMAGES
    with tempfile.TemporaryDirectory() as folder:
        compare(f"dermoscopy bundle, images of {SIDE}^2, FGSM", "images", Path(folder), (few, many))
        if not quick:
            compare(f"glioma bundle, 4 series of {'x'.join(map(str, NATIVE))} voxels, FGSM", "volumes", Path(folder), VOLUMES)


def compare(title: str, kind: str, folder: Path, counts: tuple[int, int]) -> None:
    """Print the peak of the process over few and over many cases."""
    {"images": write_images, "volumes": write_volumes}[kind](folder / kind, max(counts))
    peaks = []
    print(f"\npeak memory of the process, {title}")
    for count in counts:
        data = folder / f"{kind}{count}"
        part(folder / kind, data, count)
        found = child("benchmarks.memory", kind, data, folder / f"{kind}{count}-output")
        peaks.append(found["peak"])
        print(f"  {count:5d} cases  {found['peak'] / MIB:7.0f} MiB  {found['seconds']:6.0f} s of CPU time", flush=True)
    print(f"  grows by {100 * (peaks[1] / peaks[0] - 1):.1f} %   target <= 5 %")


def write_images(folder: Path, count: int) -> None:
    """Coloured noise with a dark disc each, and its mask."""
    from PIL import Image

    grid = np.hypot(*np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE)))
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for k in range(count):
        draw = np.random.default_rng(k)
        disc = grid < draw.uniform(0.3, 0.8)
        image = draw.normal(170, 20, (SIDE, SIDE, 3)) - 60 * disc[..., None]
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"c{k:05d}.png")
        Image.fromarray((disc * 255).astype(np.uint8)).save(folder / "masks" / f"c{k:05d}.png")


def write_volumes(folder: Path, count: int) -> None:
    """Subjects of four series whose skull fills the grid, with a ball of each class."""
    import nibabel as nib

    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in NATIVE), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    label = np.select([radius < 0.1, radius < 0.2, radius < 0.3], [1, 4, 2], 0).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for k in range(count):
        draw = np.random.default_rng(k)
        home = folder / f"S{k:03d}"
        home.mkdir(parents=True)
        for name in ("t1", "t1ce", "t2", "flair"):
            values = 300 + 100 * label.astype(np.int16) + draw.integers(0, 50, NATIVE, dtype=np.int16)
            nib.save(nib.Nifti1Image(values, affine), home / f"S{k:03d}_{name}.nii")
        nib.save(nib.Nifti1Image(label, affine), home / f"S{k:03d}_seg.nii")


def part(source: Path, target: Path, count: int) -> None:
    """The first cases of a folder, all of them for testing."""
    names = sorted(p.stem for p in (source / "images").iterdir()) if (source / "images").is_dir() else sorted(os.listdir(source))
    for name in names[:count]:
        for file in [*source.glob(f"*/{name}.png"), *source.glob(f"{name}/*.nii")]:
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target / file.relative_to(source))
    (target / "split.csv").write_text("case,section\n" + "".join(f"{name},test\n" for name in names[:count]))


def measure(kind: str, data: Path, output: Path) -> dict[str, float]:
    """CPU seconds and peak resident bytes of one evaluation under FGSM, the network untrained."""
    import time

    import torch

    from monai_advdef.bundle import bundles
    from monai_advdef.study import Cell, evaluate, quiet, workflow

    quiet()
    torch.set_num_threads(1)
    bundle = bundles()[SKIN if kind == "images" else GLIOMA]
    told: dict[str, Any] = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(output)}
    told |= {"image_size": SIDE} if kind == "images" else one_layer()
    output.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        network = workflow(bundle, [bundle / "configs" / "train.yaml"], told).parser.get_parsed_content("net")
        torch.save(network.state_dict(), output / "model.pt")
        del network
        evaluate(bundle, Cell(("attacks/fgsm",)), told)
    return {"seconds": time.process_time(), "peak": peak_memory()}


def one_layer() -> dict[str, Any]:
    """A network of one convolution on whole volumes: what is measured is what is held of them, not what a network needs."""
    layer = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 4, "kernel_size": 1}
    return {"network_def": layer, "validate::inferer": {"_target_": "SimpleInferer"}, "distances": False}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
