"""Data: phantom data sets, finding, checking and splitting files, and the transforms between reading and use.

The transforms need torch and MONAI and are imported when first asked for; the rest is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from monai_advdef.data.annotations import require_diagnoses
from monai_advdef.data.checking import check_folder
from monai_advdef.data.dataset import dataset
from monai_advdef.data.errors import DataError
from monai_advdef.data.image_files import check_pair
from monai_advdef.data.mri_subjects import subject_items
from monai_advdef.data.pairs import image_mask_pairs
from monai_advdef.data.phantoms import (
    PHANTOMS,
    write_fundus_phantoms,
    write_glioma_phantoms,
    write_lung_phantoms,
    write_phantoms,
    write_skin_phantoms,
)
from monai_advdef.data.prepare import prepare
from monai_advdef.data.splits import fold_pairs, split_pairs
from monai_advdef.data.tasks import TASKS, Task, find_task

if TYPE_CHECKING:
    from monai_advdef.data.mri_transforms import MapLabelsd, NormalizeSeriesd, OrderSeriesd, UnmapLabelsd
    from monai_advdef.data.n4 import BiasCorrectionN4d
    from monai_advdef.data.series import Series, read_series
    from monai_advdef.data.series_subject import check_same_grid, subject_from_dicom
    from monai_advdef.data.series_transforms import LoadSeriesd
    from monai_advdef.data.series_write import write_series
    from monai_advdef.data.transforms import CheckPixelsd, MaskToClassesd, ToGreyd, ToRGBd

__all__ = [
    "PHANTOMS",
    "TASKS",
    "BiasCorrectionN4d",
    "CheckPixelsd",
    "DataError",
    "LoadSeriesd",
    "MapLabelsd",
    "MaskToClassesd",
    "NormalizeSeriesd",
    "OrderSeriesd",
    "Series",
    "Task",
    "ToGreyd",
    "ToRGBd",
    "UnmapLabelsd",
    "check_folder",
    "check_pair",
    "check_same_grid",
    "dataset",
    "find_task",
    "fold_pairs",
    "image_mask_pairs",
    "prepare",
    "read_series",
    "require_diagnoses",
    "split_pairs",
    "subject_from_dicom",
    "subject_items",
    "write_fundus_phantoms",
    "write_glioma_phantoms",
    "write_lung_phantoms",
    "write_phantoms",
    "write_series",
    "write_skin_phantoms",
]


SERIES = {
    "BiasCorrectionN4d": "n4",
    "LoadSeriesd": "series_transforms",
    "Series": "series",
    "check_same_grid": "series_subject",
    "read_series": "series",
    "subject_from_dicom": "series_subject",
    "write_series": "series_write",
}


def __getattr__(name: str) -> object:
    if name in ("CheckPixelsd", "MaskToClassesd", "ToGreyd", "ToRGBd"):
        from monai_advdef.data import transforms

        return getattr(transforms, name)
    if name in ("MapLabelsd", "NormalizeSeriesd", "OrderSeriesd", "UnmapLabelsd"):
        from monai_advdef.data import mri_transforms

        return getattr(mri_transforms, name)
    if name in SERIES:
        return getattr(importlib.import_module(f"monai_advdef.data.{SERIES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
