"""MONAI array transforms around the image defences: the same modules, for one channel-first image without a batch axis."""

from __future__ import annotations

from typing import Any

import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_advdef.defenses import JPEG, Defense, FrequencyRefinement


class DefenseTransform(Transform):
    """Apply a `Defense` to one image, ``(C, H, W)`` or ``(C, D, H, W)``, array or tensor, in the defence's image units.

    The result has the type and the dtype of the input; a MetaTensor keeps its meta data.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, defense: Defense) -> None:
        self.defense = defense

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        tensor = convert_to_tensor(img, track_meta=False)
        batch = tensor.as_tensor()[None] if isinstance(tensor, MetaTensor) else tensor[None]
        self.defense.require_range(batch)
        out = self.defense(batch)[0]
        return out if type(img) is torch.Tensor else convert_to_dst_type(out, img)[0]


class JPEGCompression(DefenseTransform):
    """`monai_advdef.defenses.JPEG` as a transform; takes its keyword arguments."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(JPEG(**kwargs))


class DCTFrequencyRefinement(DefenseTransform):
    """`monai_advdef.defenses.FrequencyRefinement` as a transform; takes its keyword arguments."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(FrequencyRefinement(**kwargs))
