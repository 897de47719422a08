"""Made-up MRI subjects as NIfTI files, for the tests."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from conftest import SHARED
from monai.transforms import Compose, Orientationd

from monai_advdef.data import LoadSeriesd, MapLabelsd, NormalizeSeriesd, OrderSeriesd, find_task

SERIES = ("t1", "t1ce", "t2", "flair")
SHAPE = (12, 14, 10)
GLIOMA = find_task("glioma")
REAL = SHARED / "glioma"
LPS = np.array([[-2.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 3, -50], [0, 0, 0, 1]])


def volumes(seed=0, values=(0, 1, 2, 4)):
    """Series of a box-shaped head (int16), each with intensities of its own, and a label."""
    rng = np.random.default_rng(seed)
    head = np.zeros(SHAPE, bool)
    head[2:-2, 2:-2, 1:-1] = True
    made = {name: np.where(head, rng.integers(1, 300 * number, SHAPE), 0).astype(np.int16) for number, name in enumerate(SERIES, 1)}
    return made | {"seg": np.where(head, rng.choice(values, SHAPE), 0).astype(np.uint8)}


def loading():
    return Compose(
        [
            LoadSeriesd(keys=["image", "label"], ensure_channel_first=True),
            OrderSeriesd(keys="image"),
            MapLabelsd(keys="label"),
            NormalizeSeriesd(keys="image"),
            Orientationd(keys=["image", "label"], axcodes="LPS", labels=None),
        ]
    )


def save(path, voxels, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def subject(folder, name="{}.nii.gz", seed=0, values=(0, 1, 2, 4), affine=LPS):
    for role, voxels in volumes(seed, values).items():
        save(folder / name.format(role), voxels, affine)
    return folder


def data_set(folder):
    """Four subjects, a to d."""
    for seed, name in enumerate("abcd"):
        subject(folder / name, seed=seed)
    return folder
