"""The dictionary transform that loads volumes from DICOM folders or volume files."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, MapTransform
from monai.utils import MetaKeys, SpaceKeys

from monai_advdef.dicom.series import read_series
from monai_advdef.dicom.series_slices import is_dicom
from monai_advdef.dicom.series_subject import check_same_grid
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["LoadSeriesd"]

READERS = {
    ".nii": NibabelReader,
    ".nii.gz": NibabelReader,
    ".nrrd": ITKReader,
    ".nhdr": ITKReader,
    ".mha": ITKReader,
    ".mhd": ITKReader,
}


class LoadSeriesd(MapTransform):
    """MONAI's ``LoadImaged`` for volumes, with DICOM series read by :func:`~monai_advdef.data.read_series`.

    An entry is a folder with a DICOM series, a multi-frame DICOM file, a NIfTI, NRRD or MetaImage file, or a list of these,
    which are checked to share one grid and stacked as channels. It becomes a float32 MetaTensor (X, Y, Z), or
    (len(list), X, Y, Z), with RAS affine and ``filename_or_obj``; the axes of a file of more dimensions follow as MONAI reads them.

    Args:
        series_uid: which series to read from folders that hold several.
        modality: what DICOM series must be, such as ``"CT"``.
        ensure_channel_first: a channel axis in front, (1, X, Y, Z), as in ``LoadImaged``.

    Raises:
        DataError: whatever :func:`~monai_advdef.data.read_series` refuses, an unknown or unreadable file, an affine without inverse,
            or listed volumes on different grids.
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

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            entry = result[key]
            image = self._load(entry) if isinstance(entry, (str, os.PathLike)) else self._stack(entry)
            result[key] = self.channel_first(image) if self.channel_first else image
        return result

    def _stack(self, entries: Sequence[str | os.PathLike[str]]) -> MetaTensor:
        images = [self._load(entry) for entry in entries]
        check_same_grid({str(entry): image for entry, image in zip(entries, images)})
        meta = {**images[0].meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        return MetaTensor(torch.stack([image.as_tensor() for image in images]), meta=meta)

    def _load(self, entry: str | os.PathLike[str]) -> MetaTensor:
        path = Path(entry)
        reader = next((READERS[end] for end in READERS if path.name.lower().endswith(end)), None)
        if reader is not None and path.is_file():
            image = _load_file(path, reader())
        elif path.is_file() and not is_dicom(path):
            raise DataError(f"{path} is neither DICOM nor one of {', '.join(READERS)}; convert it to NIfTI")
        else:
            image = self._load_dicom(path)
        affine = np.asarray(image.affine)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise DataError(f"{path}: the affine has no inverse: {affine.tolist()}; correct the header")
        return image

    def _load_dicom(self, path: Path) -> MetaTensor:
        series = read_series(path, series_uid=self.series_uid, modality=self.modality)
        return MetaTensor(torch.as_tensor(np.ascontiguousarray(series.array)), meta=grid_meta(series.affine, series.shape, path))


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


def _load_file(path: Path, reader: ITKReader | NibabelReader) -> MetaTensor:
    try:
        array, meta = reader.get_data(reader.read(path))
    except Exception as error:  # the readers raise whatever their libraries do
        reason = str(error).strip().splitlines()[-1]
        raise DataError(
            f"{path} could not be read by {type(reader).__name__} ({reason}); fetch or convert the file again"
        ) from error
    meta["filename_or_obj"] = str(path)
    return MetaTensor.ensure_torch_and_prune_meta(array.astype(np.float32), meta)
