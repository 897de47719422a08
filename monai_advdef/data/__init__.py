"""Data: phantom data sets, finding, checking and splitting files, and the transforms between reading and use.

The transforms need torch and MONAI and are imported when first asked for; the rest is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from monai_advdef.data.annotations import require_diagnoses
from monai_advdef.data.checking import check_folder
from monai_advdef.data.ct_layouts import ct_kind
from monai_advdef.data.ct_subjects import ct_items
from monai_advdef.data.dataset import dataset
from monai_advdef.data.errors import DataError
from monai_advdef.data.image_files import check_pair
from monai_advdef.data.mri_subjects import subject_items
from monai_advdef.data.organs import Organs, organ_map, write_label_names
from monai_advdef.data.pairs import image_mask_pairs
from monai_advdef.data.phantoms import (
    PHANTOMS,
    write_abdomen_phantoms,
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
    from monai_advdef.data.ct_partial import MarginalLoss, marginal_logits
    from monai_advdef.data.ct_transforms import OrganLabelsd, StandardizeSubjectd, WindowHUd
    from monai_advdef.data.mri_transforms import MapLabelsd, NormalizeSeriesd, OrderSeriesd, UnmapLabelsd
    from monai_advdef.data.n4 import BiasCorrectionN4d
    from monai_advdef.data.rtstruct import read_rtstruct
    from monai_advdef.data.seg_read import read_seg
    from monai_advdef.data.seg_transforms import LoadSegd, SaveSegd
    from monai_advdef.data.seg_write import write_seg
    from monai_advdef.data.series import Series, read_series
    from monai_advdef.data.series_subject import check_same_grid
    from monai_advdef.data.series_transforms import LoadSeriesd
    from monai_advdef.data.series_write import write_series
    from monai_advdef.data.transforms import CheckPixelsd, MaskToClassesd, ToGreyd, ToRGBd

__all__ = [
    "PHANTOMS",
    "TASKS",
    "BiasCorrectionN4d",
    "CheckPixelsd",
    "DataError",
    "LoadSegd",
    "LoadSeriesd",
    "MapLabelsd",
    "MaskToClassesd",
    "MarginalLoss",
    "NormalizeSeriesd",
    "OrderSeriesd",
    "OrganLabelsd",
    "Organs",
    "SaveSegd",
    "Series",
    "StandardizeSubjectd",
    "Task",
    "ToGreyd",
    "ToRGBd",
    "UnmapLabelsd",
    "WindowHUd",
    "check_folder",
    "check_pair",
    "check_same_grid",
    "ct_items",
    "ct_kind",
    "dataset",
    "find_task",
    "fold_pairs",
    "image_mask_pairs",
    "marginal_logits",
    "organ_map",
    "prepare",
    "read_rtstruct",
    "read_seg",
    "read_series",
    "require_diagnoses",
    "split_pairs",
    "subject_items",
    "write_abdomen_phantoms",
    "write_fundus_phantoms",
    "write_glioma_phantoms",
    "write_label_names",
    "write_lung_phantoms",
    "write_phantoms",
    "write_seg",
    "write_series",
    "write_skin_phantoms",
]


LATER = {
    "BiasCorrectionN4d": "n4",
    "LoadSeriesd": "series_transforms",
    "LoadSegd": "seg_transforms",
    "MarginalLoss": "ct_partial",
    "OrganLabelsd": "ct_transforms",
    "SaveSegd": "seg_transforms",
    "Series": "series",
    "StandardizeSubjectd": "ct_transforms",
    "WindowHUd": "ct_transforms",
    "check_same_grid": "series_subject",
    "marginal_logits": "ct_partial",
    "read_rtstruct": "rtstruct",
    "read_seg": "seg_read",
    "read_series": "series",
    "write_seg": "seg_write",
    "write_series": "series_write",
}


def __getattr__(name: str) -> object:
    if name in ("CheckPixelsd", "MaskToClassesd", "ToGreyd", "ToRGBd"):
        from monai_advdef.data import transforms

        return getattr(transforms, name)
    if name in ("MapLabelsd", "NormalizeSeriesd", "OrderSeriesd", "UnmapLabelsd"):
        from monai_advdef.data import mri_transforms

        return getattr(mri_transforms, name)
    if name in LATER:
        return getattr(importlib.import_module(f"monai_advdef.data.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
