"""What each segmentation task is: its bundle, its images, their unit and range, its classes. Plain words, nothing heavy imported."""

from __future__ import annotations

from dataclasses import dataclass

from monai_advdef.data.errors import nearest


@dataclass(frozen=True)
class Task:
    """One segmentation task.

    ``value_range`` and ``unit`` are those of the stored images, and so of every eps; ``classes`` start with the background;
    ``multi_classes`` are those of ``masks_multi/`` where the task has finer masks too; ``diagnoses`` are the words of ``labels.csv``
    where images of the task may carry a diagnosis, the healthy one first.
    """

    name: str
    title: str
    bundle: str
    modality: str
    spatial_dims: int
    channels: int
    unit: str
    value_range: tuple[float, float]
    classes: tuple[str, ...]
    multi_classes: tuple[str, ...] = ()
    diagnoses: tuple[str, ...] = ()


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
}


def find_task(name: str) -> Task:
    """The task called ``name``; a ``ValueError`` that names the nearest known one otherwise."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]
