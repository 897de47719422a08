"""Dictionary transforms that load labels from DICOM SEG or RTSTRUCT and save predictions as DICOM SEG."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import create_file_basename
from monai.transforms import EnsureChannelFirst, MapTransform

from monai_advdef.dicom.label_files import label_reader
from monai_advdef.dicom.save import source_name
from monai_advdef.dicom.seg_write import SOFTWARE, write_seg
from monai_advdef.dicom.series import Series, read_series
from monai_advdef.dicom.series_slices import is_dicom
from monai_advdef.dicom.series_subject import check_same_grid
from monai_advdef.dicom.transforms import LoadSeriesd, grid_meta
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["LoadSegd", "SaveSegd"]


class LoadSegd(MapTransform):
    """Labels from a DICOM SEG or RTSTRUCT, on the grid of the DICOM series that ``data[image_key]`` is or was loaded from.

    An entry that is neither (NIfTI, NRRD, MetaImage, a DICOM series) is loaded as :class:`LoadSeriesd` does. The label becomes a
    float32 MetaTensor (X, Y, Z) with RAS affine and ``filename_or_obj``.

    Args:
        image_key: the images: a folder, a multi-frame file, or what :class:`LoadSeriesd` made of one.
        names: the class of each wanted organ by its name in the file; several may share one. None: as the file numbers them.
        series_uid: which series to take from folders that hold several.
        ensure_channel_first: a channel axis in front, (1, X, Y, Z).

    Raises:
        DataError: whatever :func:`read_seg`, :func:`read_rtstruct` and :func:`read_series` refuse, or images that are not DICOM.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        image_key: str = "image",
        names: Mapping[str, int] | None = None,
        series_uid: str | None = None,
        ensure_channel_first: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.names, self.series_uid = image_key, names, series_uid
        self.volumes = LoadSeriesd(keys, series_uid=series_uid, allow_missing_keys=True)
        self.channel_first = EnsureChannelFirst() if ensure_channel_first else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            entry = result[key]
            reader = label_reader(Path(entry)) if isinstance(entry, (str, os.PathLike)) else None
            if reader is None:
                label = self.volumes({key: entry})[key]
            else:
                series = _series_of(result[self.image_key], self.series_uid)
                if series is None:
                    raise DataError(
                        f"{entry} needs the DICOM series it was made on, but {self.image_key!r} is none; give its folder"
                    )
                values = reader(entry, series=series, names=self.names)[0].astype(np.float32)
                label = MetaTensor(torch.as_tensor(values), meta=grid_meta(series.affine, series.shape, entry))
            result[key] = self.channel_first(label) if self.channel_first else label
        return result


class SaveSegd(MapTransform):
    """Predictions of classes ``(1, X, Y, Z)``, back on the grid of their images, as DICOM SEG; ``data`` is left as it is.

    Runs after ``Invertd`` and ``AsDiscreted(argmax=True)``. The series is where ``filename_or_obj`` of the prediction says; a case
    that does not come from DICOM is passed over. Files are named as by ``SaveImaged``: ``output_dir/NAME/NAME_POSTFIX.dcm``, with
    ``NAME`` the series folder.

    Args:
        output_dir: made if absent.
        names: of the classes 1, 2, ...
        algorithm: the name by which the file says what made it.
        output_postfix: tells the predictions of one series apart.
        data_root_dir: keep the folders between it and the series, where series folders of several cases bear the same name.
        series_uid: which series to take from folders that hold several.

    Raises:
        DataError: more channels than one, a prediction on another grid than its series, or whatever :func:`write_seg` refuses.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: str,
        names: Sequence[str],
        algorithm: str = SOFTWARE,
        output_postfix: str = "seg",
        data_root_dir: str = "",
        series_uid: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir, self.names, self.algorithm = output_dir, tuple(names), algorithm
        self.output_postfix, self.data_root_dir, self.series_uid = output_postfix, data_root_dir, series_uid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            prediction = data[key]
            if not isinstance(prediction, MetaTensor) or not prediction.meta.get("filename_or_obj"):
                raise DataError(f"{key!r} has no filename_or_obj; give it the metadata of its image, as Invertd does")
            series = _series_of(prediction, self.series_uid)
            if series is not None:
                self._save(str(key), prediction, series)
        return dict(data)

    def _save(self, key: str, prediction: MetaTensor, series: Series) -> None:
        source = Path(str(prediction.meta["filename_or_obj"]))
        if prediction.ndim != 4 or len(prediction) != 1:
            raise DataError(
                f"{key!r} of {source} must be classes (1, X, Y, Z), got {tuple(prediction.shape)}; take the argmax first"
            )
        labels = MetaTensor(prediction[0])
        check_same_grid({str(source): series, f"{key!r}": labels})
        name = source_name(prediction.meta, self)["subject"]
        path = create_file_basename(self.output_postfix, name, self.output_dir, data_root_dir=self.data_root_dir)
        write_seg(f"{path}.dcm", labels.as_tensor().cpu().numpy(), series=series, names=self.names, algorithm=self.algorithm)


def _series_of(image: Any, series_uid: str | None) -> Series | None:
    """The DICOM series that an image is, or was loaded from; None where it is none."""
    source = Path(str(image.meta["filename_or_obj"] if isinstance(image, MetaTensor) else image))
    return read_series(source, series_uid=series_uid) if source.is_dir() or (source.is_file() and is_dicom(source)) else None
