"""Data: phantom data sets, finding, checking and splitting files, and the transforms between reading and use.

The transforms need torch and MONAI and are imported when first asked for; the rest is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from monai_advdef.data.annotations import require_diagnoses
from monai_advdef.data.checking import check_folder
from monai_advdef.data.ct.layouts import ct_kind
from monai_advdef.data.ct.organs import Organs, organ_map, write_label_names
from monai_advdef.data.ct.subjects import ct_items
from monai_advdef.data.datasets import dataset
from monai_advdef.data.image_files import check_pair
from monai_advdef.data.mri.subjects import subject_items
from monai_advdef.data.pairs import image_mask_pairs
from monai_advdef.data.pictures.eight_bits import to_eight_bits
from monai_advdef.data.pictures.items import picture_items
from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.pictures.read import read_picture
from monai_advdef.data.preparation import prepare
from monai_advdef.data.sections import Sections, cases_in
from monai_advdef.data.sources.find import scan_kind
from monai_advdef.data.splits import fold_pairs, split_pairs
from monai_advdef.data.tasks import TASKS, Task, find_task
from monai_advdef.errors import DataError
from monai_advdef.phantoms.write import (
    PHANTOMS,
    write_abdomen_phantoms,
    write_fundus_phantoms,
    write_glioma_phantoms,
    write_lung_phantoms,
    write_phantoms,
    write_skin_phantoms,
)

if TYPE_CHECKING:
    from monai_advdef.data.ct.partial import MarginalLoss, marginal_logits
    from monai_advdef.data.ct.transforms import OrganLabelsd, StandardizeSubjectd, WindowHUd
    from monai_advdef.data.held import HeldCases
    from monai_advdef.data.mri.n4 import BiasCorrectionN4d
    from monai_advdef.data.mri.transforms import MapLabelsd, NormalizeSeriesd, OrderSeriesd, UnmapLabelsd
    from monai_advdef.data.pictures.transforms import LoadPictured
    from monai_advdef.data.transforms import CheckPixelsd, MaskToClassesd, ToGreyd, ToRGBd
    from monai_advdef.dicom.rtstruct import read_rtstruct
    from monai_advdef.dicom.save import SaveVolumesd
    from monai_advdef.dicom.seg_read import read_seg
    from monai_advdef.dicom.seg_transforms import LoadSegd, SaveSegd
    from monai_advdef.dicom.seg_write import write_seg
    from monai_advdef.dicom.series import Series, read_series
    from monai_advdef.dicom.series_subject import check_same_grid
    from monai_advdef.dicom.series_write import write_series
    from monai_advdef.dicom.transforms import LoadSeriesd

__all__ = [
    "PHANTOMS",
    "TASKS",
    "BiasCorrectionN4d",
    "CheckPixelsd",
    "DataError",
    "HeldCases",
    "LoadPictured",
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
    "SaveVolumesd",
    "Sections",
    "Series",
    "StandardizeSubjectd",
    "Task",
    "ToGreyd",
    "ToRGBd",
    "UnmapLabelsd",
    "WindowHUd",
    "cases_in",
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
    "picture_items",
    "prepare",
    "read_mask",
    "read_picture",
    "read_rtstruct",
    "read_seg",
    "read_series",
    "require_diagnoses",
    "scan_kind",
    "split_pairs",
    "subject_items",
    "to_eight_bits",
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
    **dict.fromkeys(("CheckPixelsd", "MaskToClassesd", "ToGreyd", "ToRGBd"), "data.transforms"),
    **dict.fromkeys(("MapLabelsd", "NormalizeSeriesd", "OrderSeriesd", "UnmapLabelsd"), "data.mri.transforms"),
    **dict.fromkeys(("OrganLabelsd", "StandardizeSubjectd", "WindowHUd"), "data.ct.transforms"),
    **dict.fromkeys(("MarginalLoss", "marginal_logits"), "data.ct.partial"),
    **dict.fromkeys(("LoadSegd", "SaveSegd"), "dicom.seg_transforms"),
    **dict.fromkeys(("Series", "read_series"), "dicom.series"),
    "BiasCorrectionN4d": "data.mri.n4",
    "HeldCases": "data.held",
    "LoadPictured": "data.pictures.transforms",
    "LoadSeriesd": "dicom.transforms",
    "SaveVolumesd": "dicom.save",
    "check_same_grid": "dicom.series_subject",
    "read_rtstruct": "dicom.rtstruct",
    "read_seg": "dicom.seg_read",
    "write_seg": "dicom.seg_write",
    "write_series": "dicom.series_write",
}


def __getattr__(name: str) -> object:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"monai_advdef.{LATER[name]}"), name)
