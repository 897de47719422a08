"""The dictionary transform that loads volumes from DICOM folders or volume files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, MapTransform
from monai.utils import MetaKeys, SpaceKeys

from monai_advdef.dicom.itk_files import read_itk
from monai_advdef.dicom.nifti import ENDINGS as NIFTI
from monai_advdef.dicom.nifti import read_nifti
from monai_advdef.dicom.notes import kind_of
from monai_advdef.dicom.series import read_series
from monai_advdef.dicom.series_slices import is_dicom
from monai_advdef.dicom.series_subject import Grid, check_same_grid, turned_onto
from monai_advdef.dicom.units import check_voxel_size
from monai_advdef.errors import DataError, reading
from monai_advdef.switches import as_written

__all__ = ["LoadSeriesd"]

ITK = (".nrrd", ".nhdr", ".mha", ".mhd")


class LoadSeriesd(MapTransform):
    """MONAI's ``LoadImaged`` for volumes, with DICOM series read by :func:`~monai_advdef.data.read_series`.

    An entry is a folder with a DICOM series, a multi-frame DICOM file, a NIfTI, NRRD or MetaImage file, or a list of these,
    which are turned to the axes of the first, checked to share its grid, and stacked as channels. It becomes a float32 MetaTensor
    (X, Y, Z), or (len(list), X, Y, Z), with RAS affine in mm (units that a header states are applied) and ``filename_or_obj``; the
    axes of a file of more dimensions follow as MONAI reads them, but for last ones of length 1. What is odd but usable, such as
    files of a series folder that are no slices, is said as a warning, the first of a kind.

    Args:
        series_uid: which series to read from folders that hold several.
        modality: what DICOM series must be, such as ``"CT"``.
        ensure_channel_first: a channel axis in front, (1, X, Y, Z), as in ``LoadImaged``.

    Raises:
        DataError: whatever :func:`~monai_advdef.data.read_series` refuses, an unknown or unreadable file, an affine without inverse,
            implausible voxel sizes, or listed volumes on different grids.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        series_uid: str | None = None,
        modality: str | None = None,
        ensure_channel_first: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.series_uid = series_uid
        self.modality = modality
        self.channel_first = EnsureChannelFirst() if ensure_channel_first else None
        self.told: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            entry = result[key]
            image = self._load(entry) if isinstance(entry, (str, os.PathLike)) else self._stack(entry)
            result[key] = self.channel_first(image) if self.channel_first else image
        return result

    def _stack(self, entries: Sequence[str | os.PathLike[str]]) -> MetaTensor:
        images = [self._load(entry) for entry in entries]
        images = [images[0], *(_turned(image, images[0]) for image in images[1:])]
        check_same_grid({str(entry): image for entry, image in zip(entries, images)})
        meta = {**images[0].meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        return MetaTensor(torch.stack([image.as_tensor() for image in images]), meta=meta)

    def _load(self, entry: str | os.PathLike[str]) -> MetaTensor:
        path = Path(entry)
        name = path.name.lower()
        if name.endswith(NIFTI) and not path.is_dir():
            array, header = read_nifti(path)
            self._tell(header.notes)
            return _tensor(array, header.affine, path)
        with reading(path):
            other = path.is_file() and not name.endswith(ITK) and not is_dicom(path)
        if other:
            raise DataError(f"{path} is neither DICOM nor one of {', '.join((*sorted(NIFTI), *ITK))}; convert it to NIfTI")
        if path.is_file() and name.endswith(ITK):
            array, affine = read_itk(path)
            check_voxel_size(affine, path)
            return _tensor(array, affine, path)
        series = read_series(path, series_uid=self.series_uid, modality=self.modality)
        self._tell([series.note] if series.note else [])
        return _tensor(series.in_scale, series.affine, path)

    def _tell(self, notes: Sequence[str]) -> None:
        """Say as a warning what is odd about a file, the first of a kind."""
        for note in notes:
            if (kind := kind_of(note)) not in self.told:
                self.told.add(kind)
                warnings.warn(note, stacklevel=4)


def _tensor(array: np.ndarray, affine: np.ndarray, path: Path) -> MetaTensor:
    """Voxels as MONAI's readers give them, float32."""
    meta = grid_meta(affine, array.shape[:3], path) | ({MetaKeys.ORIGINAL_CHANNEL_DIM: -1} if array.ndim > 3 else {})
    return MetaTensor(torch.as_tensor(np.array(array, np.float32, order="C")), meta=meta)


def _turned(image: MetaTensor, first: MetaTensor) -> MetaTensor:
    """The same image with its axes in the order and direction of those of ``first``."""
    array, affine = turned_onto(Grid(first.shape[:3], first.affine.numpy()), image.numpy(), image.affine.numpy())
    meta = {**image.meta, **grid_meta(affine, array.shape[:3], image.meta["filename_or_obj"])}
    return MetaTensor(torch.as_tensor(np.ascontiguousarray(array)), meta=meta)


def grid_meta(affine: np.ndarray, shape: Sequence[int], source: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that MONAI's readers give a volume without a channel axis, in RAS."""
    return {
        MetaKeys.AFFINE: torch.as_tensor(affine),
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        "filename_or_obj": str(source),
    }
