"""The dictionary transform that loads pictures and masks, as :func:`read_picture` and :func:`read_mask` read them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_advdef.data.pictures.masks import read_mask
from monai_advdef.data.pictures.read import read_picture
from monai_advdef.data.transforms import ToGreyd, ToRGBd
from monai_advdef.errors import nearest
from monai_advdef.switches import as_written

__all__ = ["LoadPictured"]


class LoadPictured(MapTransform):
    """Picture files to float32 MetaTensors ``(C, W, H)`` as a viewer shows them, the axes in the order of MONAI's ``PILReader``.

    It stands for ``LoadImaged`` with that reader, which shows another picture where a file carries an orientation tag, a palette, a
    colour profile or more than 8 bits. ``filename_or_obj`` and ``spatial_shape`` are in ``meta``, so that ``Invertd`` and
    ``SaveImaged`` work, on the grid that a viewer shows.

    Args:
        kind: ``"rgb"`` (3 channels, grey levels), ``"grey"`` (1 channel, colour by its luma, ITU-R BT.601), or ``"mask"`` (1
            channel of class numbers, or 0 and 255).

    Raises:
        ValueError: another ``kind``.
        DataError: what :func:`read_picture` or :func:`read_mask` refuses, naming the file.
    """

    KINDS = ("rgb", "grey", "mask")

    @as_written
    def __init__(self, keys: KeysCollection, *, kind: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if kind not in self.KINDS:
            raise ValueError(f"no kind {kind!r} of picture; {nearest(kind, self.KINDS)}")
        self.kind = kind

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._load(str(result[key]))
        return result

    def _load(self, path: str) -> MetaTensor:
        pixels = read_mask(path)[..., None] if self.kind == "mask" else read_picture(path)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 1, 0), dtype=np.float32))
        if self.kind != "mask":
            image = (ToRGBd if self.kind == "rgb" else ToGreyd)("image")({"image": image})["image"]
        meta = {"filename_or_obj": path, "spatial_shape": np.array(image.shape[1:]), "original_channel_dim": 0}
        return MetaTensor(image, meta=meta)
