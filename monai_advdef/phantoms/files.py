"""The folder of a phantom data set: claimed, filled case by case, resumed after an interruption."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from monai_advdef.errors import DataError

MARKER = "phantoms.json"
PARTS = ("images", "masks", "masks_cup", "masks_multi", "labels", "dicom")
OURS = (*(f"{part}/phantom_[0-9]*.*" for part in PARTS), "phantom_[0-9]*/*.nii.gz", "dicom/phantom_[0-9]*/slice_*.dcm")
CASE = re.compile(r"phantom_(\d+)")

Size = tuple[int, int]


@dataclass(frozen=True)
class PhantomFolder:
    """A folder that holds, or will hold, the phantoms of a task.

    ``parts`` are its sub-folders, that of the images first. Case ``i`` is drawn from the generator of ``(seed, i)``.

    Raises:
        ValueError: a size below 64 pixels.
    """

    root: Path
    task: str
    parts: Sequence[str]
    sizes: Sequence[Sequence[int]]
    seed: int

    def __post_init__(self) -> None:
        if not self.sizes or any(len(size) != 2 or min(size) < 64 for size in self.sizes):
            raise ValueError(f"sizes must be (width, height) pairs of at least 64 pixels, got {self.sizes}")

    def generator(self, index: int) -> tuple[np.random.Generator, Size]:
        """The generator of a case, and the size (width, height) that was drawn from it."""
        rng = np.random.default_rng([self.seed, index])
        width, height = self.sizes[int(rng.integers(len(self.sizes)))]
        return rng, (width, height)

    def files(self, index: int) -> list[Path]:
        """The files of a case, one per part: images are JPEG, every fourth PNG; masks are PNG."""
        kinds = ["png" if index % 4 == 3 else "jpg", *("png" for _ in self.parts[1:])]
        return [self.root / part / f"phantom_{index:04d}.{kind}" for part, kind in zip(self.parts, kinds)]

    def write(self, cases: int, draw: Callable[[int], Sequence[np.ndarray]]) -> list[Path]:
        """Write the cases that are not there yet, ``draw`` giving the pixels of a case part by part; the paths of all images."""
        for index in range(cases):
            files = self.files(index)
            if all(path.exists() for path in files):
                continue
            for pixels, path in zip(draw(index), files, strict=True):
                _save(pixels, path)
        return [self.files(index)[0] for index in range(cases)]

    def claim(self, cases: int, *, overwrite: bool) -> None:
        """Make the folder ours (see :func:`claim_folder`), with a sub-folder for each part."""
        made_of = {"task": self.task, "seed": self.seed, "sizes": [list(size) for size in self.sizes]}
        claim_folder(self.root, made_of, cases, overwrite=overwrite)
        for part in self.parts:
            (self.root / part).mkdir(exist_ok=True)


def claim_folder(root: Path, made_of: Mapping[str, Any], cases: int, *, overwrite: bool) -> None:
    """Make a folder ours: create it, accept our own equal phantoms, clear others of ours if allowed, refuse everything else.

    ``made_of`` is what the phantoms depend on; a file in the folder keeps it.

    Raises:
        ValueError: ``cases`` below 1.
        DataError: the folder holds something else, or other phantoms and ``overwrite`` is false.
    """
    if cases < 1:
        raise ValueError(f"cases must be at least 1, got {cases}")
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, not a folder; name a new or empty folder for the phantoms")
    if root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir()):
        _accept(root, made_of, cases, overwrite)
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / MARKER, json.dumps(made_of) + "\n")


def _accept(root: Path, made_of: Mapping[str, Any], cases: int, overwrite: bool) -> None:
    marker = root / MARKER
    if not marker.exists():
        raise DataError(f"{root} is not empty and holds no phantoms of ours; name a new or empty folder for the phantoms")
    found = json.loads(marker.read_text(encoding="utf-8"))
    ours = [path for pattern in OURS for path in root.glob(pattern)]
    surplus = [path for path in ours if int(CASE.findall(str(path))[-1]) >= cases]
    if not overwrite and (found != made_of or surplus):
        raise DataError(
            f"{root} holds other phantoms (made of {found}, {len(surplus)} files beyond {cases} cases); "
            "pass overwrite=True to replace them, or name another folder"
        )
    if overwrite:
        for path in ours:
            path.unlink()
            if path.parent.name.startswith("phantom_") and not any(path.parent.iterdir()):
                path.parent.rmdir()


def save_volumes(folder: Path, volumes: Mapping[str, np.ndarray], affine: np.ndarray) -> None:
    """Write ``<folder>/<name>.nii.gz`` for every volume, each whole or not at all, in the type it has."""
    folder.mkdir(exist_ok=True)
    for name, voxels in volumes.items():
        image = nib.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm", "sec")
        partial = folder / f".{name}.{os.getpid()}.nii.gz"
        nib.save(image, partial)
        partial.replace(folder / f"{name}.nii.gz")


def write_text(path: Path, text: str) -> None:
    """Write the whole file or none of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write the whole file or none of it."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    Image.fromarray(pixels).save(partial, quality=95, subsampling=0)  # PNG has no such settings and leaves them aside
    partial.replace(path)
