"""Dictionary transforms for CT: Hounsfield units in a window, per-subject z-score, labels as classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys

from monai_advdef.data.ct.checks import check_hu
from monai_advdef.data.ct.labels import read_class_map
from monai_advdef.data.ct.organs import organ_map as read_organ_map
from monai_advdef.data.transforms import item_name
from monai_advdef.dicom.transforms import grid_meta
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["OrganLabelsd", "StandardizeSubjectd", "WindowHUd"]


class WindowHUd(MapTransform):
    """CT volumes (1, \\*S) in HU, checked (see :func:`~monai_advdef.data.ct.checks.check_hu`) and clipped to a window, still in HU.

    Args:
        window: (low, high) in HU. -160 to 240, soft tissue, is that of the abdominal challenges (Ma et al., "AbdomenCT-1K", TPAMI
            2022); paper 002 names none.

    Raises:
        ValueError: a window without width.
        DataError: other than one channel, or values that are no HU, naming the file.
    """

    @as_written
    def __init__(self, keys: KeysCollection, *, window: Sequence[float] = (-160.0, 240.0), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.low, self.high = window
        if not self.low < self.high:
            raise ValueError(f"window must be (low, high) in HU with low < high, got {tuple(window)}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image, name = result[key], item_name(data, key, None)
            if image.shape[0] != 1:
                raise DataError(f"{name} has {image.shape[0]} channels; a CT has one: take it apart")
            check_hu(torch.as_tensor(image).numpy(), name)
            result[key] = image.clamp(self.low, self.high)
        return result


class StandardizeSubjectd(MapTransform):
    """Per-subject z-score, kept in image units: ``mean + std * (x - m) / s`` with the mean m and deviation s of the image at hand.

    Behind it a first layer ``(x - mean) / std`` gives the network exactly the z-score of paper 002 (section on data). One unit of
    the result is ``s / std`` of the file's units for this subject, which the metadata keep as ``unit_size``, beside
    ``subject_mean`` and ``subject_std`` (m and s, in HU or grey levels).

    Args:
        mean, std: those of the network's first layer, in image units.

    Raises:
        ValueError: a ``std`` that is not positive.
        DataError: an image of one value, naming the file.
    """

    @as_written
    def __init__(self, keys: KeysCollection, *, mean: float, std: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not std > 0:
            raise ValueError(f"std must be above 0 in image units, got {std}")
        self.mean, self.std = float(mean), float(std)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            values = torch.as_tensor(image).double()
            mean, std = float(values.mean()), float(values.std(correction=0))
            if std == 0:
                raise DataError(f"{item_name(data, key, None)} holds nothing but the value {mean:g} in the window; leave it out")
            result[key] = (image - mean) * (self.std / std) + self.mean
            if isinstance(image, MetaTensor):
                result[key].meta |= {"subject_mean": mean, "subject_std": std, "unit_size": std / self.std}
        return result


class OrganLabelsd(MapTransform):
    """Load label files as classes (1, \\*S), float32: NIfTI, a DICOM SEG of the series under ``image_key``, or a PNG mask.

    List it after the image is loaded. The metadata keep ``annotated`` (a bool per class), see :class:`MarginalLoss`.

    Args:
        organ_map, organs: see :func:`~monai_advdef.data.organ_map`.
        known_key: the entry with the label values that may occur besides those of the organs.
        annotated_key: the entry that says which classes were outlined; all where there is none.

    Raises:
        DataError: what :func:`~monai_advdef.data.ct.labels.read_class_map` refuses, naming file, value and remedy.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        organ_map: str = "abdomen",
        organs: Sequence[str] | str | None = None,
        image_key: str = "image",
        known_key: str = "known_values",
        annotated_key: str = "annotated",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.organs = read_organ_map(organ_map, organs)
        self.image_key, self.known_key, self.annotated_key = image_key, known_key, annotated_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            path, image = Path(str(result[key])), Path(result[self.image_key].meta["filename_or_obj"])
            found = read_class_map(path, image, self.organs, known=data.get(self.known_key, ()))
            annotated = torch.tensor(data.get(self.annotated_key, [True] * self.organs.classes))
            meta = {**grid_meta(found.affine, found.array.shape, path), MetaKeys.ORIGINAL_CHANNEL_DIM: 0, "annotated": annotated}
            result[key] = MetaTensor(torch.as_tensor(found.array)[None].float(), meta=meta)
        return result
