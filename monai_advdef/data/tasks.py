"""What each segmentation task is: its bundle, its images, their unit and range, its classes. Plain words, nothing heavy imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from monai_advdef.errors import nearest


@dataclass(frozen=True)
class Task:
    """One segmentation task.

    ``value_range`` and ``unit`` are those of the images an attack sees, and so of every eps; ``"image"`` stands for the range of
    each image and channel where no fixed one is known. ``classes`` start with the background; ``multi_classes`` are those of
    ``masks_multi/`` where the task has finer masks too; ``diagnoses`` are the words of ``labels.csv`` where images of the task may
    carry a diagnosis, the healthy one first. Where a case is several volumes, ``series`` names them in the order of the channels,
    ``label_values`` are the numbers that stand for the classes in a label file, and ``regions`` are unions of classes by number.
    ``parts`` are structures within the last class that data sets draw apart; they are numbered after the classes.
    ``split`` are the shares of train, validation and test where no file says how a data set is split.
    """

    name: str
    title: str
    bundle: str
    modality: str
    spatial_dims: int
    channels: int
    unit: str
    value_range: tuple[float, float] | Literal["image"]
    classes: tuple[str, ...]
    multi_classes: tuple[str, ...] = ()
    diagnoses: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    split: tuple[float, float, float] = (0.6125, 0.0875, 0.30)


TASKS: dict[str, Task] = {
    "skin": Task(
        name="skin",
        title="Skin lesion in dermoscopy",
        bundle="skin_lesion_dermoscopy_segmentation",
        modality="dermoscopy",
        spatial_dims=2,
        channels=3,
        unit="grey level",
        value_range=(0.0, 255.0),
        classes=("background", "lesion"),
    ),
    "fundus": Task(
        name="fundus",
        title="Optic disc in fundus photographs",
        bundle="optic_disc_fundus_segmentation",
        modality="fundus photography",
        spatial_dims=2,
        channels=3,
        unit="grey level",
        value_range=(0.0, 255.0),
        classes=("background", "optic disc"),
        diagnoses=("normal", "glaucoma"),
        parts=("optic cup",),
    ),
    "lung": Task(
        name="lung",
        title="Lungs in chest radiographs",
        bundle="lung_xray_segmentation",
        modality="radiography",
        spatial_dims=2,
        channels=1,
        unit="grey level",
        value_range=(0.0, 255.0),
        classes=("background", "lungs"),
        multi_classes=("background", "left lung", "right lung", "heart"),
    ),
    "glioma": Task(
        name="glioma",
        title="Glioma in MRI",
        bundle="glioma_mri_segmentation",
        modality="MRI",
        spatial_dims=3,
        channels=4,
        unit="σ",
        value_range="image",
        classes=("background", "necrotic and non-enhancing core", "oedema", "enhancing tumour"),
        series=("t1", "t1ce", "t2", "flair"),
        label_values=(0, 1, 2, 4),
        regions={"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)},
        split=(0.7, 0.1, 0.2),
    ),
    "abdomen": Task(
        name="abdomen",
        title="Abdominal organs in CT",
        bundle="abdominal_organ_ct_segmentation",
        modality="CT",
        spatial_dims=3,
        channels=1,
        unit="HU",
        value_range=(-160.0, 240.0),
        classes=("background", "pancreas", "kidneys", "liver", "spleen"),
        split=(0.55, 0.2, 0.25),
    ),
}


def find_task(name: str) -> Task:
    """The task called ``name``; a ``ValueError`` that names the nearest known one otherwise."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]
