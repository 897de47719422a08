"""Data: phantom data sets, finding, checking and splitting files, and the transforms between reading and use.

The transforms need torch and MONAI and are imported when first asked for; the rest is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai_advdef.data.annotations import require_diagnoses
from monai_advdef.data.checking import check_folder
from monai_advdef.data.dataset import dataset
from monai_advdef.data.errors import DataError
from monai_advdef.data.image_files import check_pair
from monai_advdef.data.pairs import image_mask_pairs
from monai_advdef.data.phantoms import PHANTOMS, write_fundus_phantoms, write_lung_phantoms, write_phantoms, write_skin_phantoms
from monai_advdef.data.prepare import prepare
from monai_advdef.data.splits import split_pairs
from monai_advdef.data.tasks import TASKS, Task, find_task

if TYPE_CHECKING:
    from monai_advdef.data.transforms import CheckPixelsd, MaskToClassesd, ToGreyd, ToRGBd

__all__ = [
    "PHANTOMS",
    "TASKS",
    "CheckPixelsd",
    "DataError",
    "MaskToClassesd",
    "Task",
    "ToGreyd",
    "ToRGBd",
    "check_folder",
    "check_pair",
    "dataset",
    "find_task",
    "image_mask_pairs",
    "prepare",
    "require_diagnoses",
    "split_pairs",
    "write_fundus_phantoms",
    "write_lung_phantoms",
    "write_phantoms",
    "write_skin_phantoms",
]


def __getattr__(name: str) -> object:
    if name in ("CheckPixelsd", "MaskToClassesd", "ToGreyd", "ToRGBd"):
        from monai_advdef.data import transforms

        return getattr(transforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
