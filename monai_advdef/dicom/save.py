"""Predictions of volumes as NIfTI files, in mm and under names of their own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import NibabelWriter
from monai.transforms import SaveImaged

from monai_advdef.dicom.nifti import ENDINGS
from monai_advdef.errors import DataError

__all__ = ["SaveVolumesd", "source_name"]


class MillimetreWriter(NibabelWriter):
    """MONAI's writer of NIfTI, whose headers say that lengths are mm, as those of the affine are."""

    @classmethod
    def create_backend_obj(cls, data_array: Any, affine: Any = None, dtype: Any = None, **options: Any) -> Any:
        """nibabel's image with its lengths said to be in mm."""
        made = super().create_backend_obj(data_array, affine, dtype, **options)
        made.header.set_xyzt_units("mm")
        return made


class SaveVolumesd(SaveImaged):
    """MONAI's ``SaveImaged`` for volumes: NIfTI in mm, named as the file or series folder read, none written over another.

    Args:
        keys: of MetaTensors whose ``filename_or_obj`` is a volume file or a folder with a DICOM series; names may hold dots.
        options: those of ``SaveImaged``, but ``writer`` and ``output_name_formatter``.

    Raises:
        DataError: two sources whose predictions would be one file, naming both.
    """

    def __init__(self, keys: KeysCollection, **options: Any) -> None:
        super().__init__(keys, writer=MillimetreWriter, output_name_formatter=source_name, **options)
        self.source_of: dict[str, str] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            source = str(data[key].meta.get("filename_or_obj", ""))
            path = str(self.saver.folder_layout.filename(**source_name(data[key].meta, self.saver)))
            if self.source_of.setdefault(path, source) != source:
                both = f"{source} and {self.source_of[path]}"
                raise DataError(f"the predictions of {both} would both be {path}; rename one of the two")
        return super().__call__(data)


def source_name(meta: Mapping[str, Any], saver: Any) -> dict[str, Any]:
    """What MONAI's folder layouts make a file's name of, which takes off one suffix, and ``.nii`` before ``.gz``.

    A folder's name has none, however many dots it holds, and the suffix of a file may be written in capitals.
    """
    path = Path(str(meta.get("filename_or_obj", getattr(saver, "_data_index", 0))))
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    if path.is_dir():
        path = path.with_name(path.name + ENDINGS[1])
    elif ending:
        path = path.with_name(path.name[: -len(ending)] + ending)
    return {"subject": str(path), "idx": meta.get("patch_index")}
