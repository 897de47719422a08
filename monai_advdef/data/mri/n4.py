"""Bias field correction of MR images by N4, as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import optional_import

from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

__all__ = ["BiasCorrectionN4d"]

SimpleITK, INSTALLED = optional_import("SimpleITK")


class BiasCorrectionN4d(MapTransform):
    """Divide out the slow intensity variation of MR images (C, *S), two or three spatial axes, channel by channel.

    N4 (Tustison et al., "N4ITK: improved N3 bias correction", IEEE TMI 29, 2010) of SimpleITK, fitted to the non-zero voxels of
    the image shrunk ``shrink``-fold and evaluated at full resolution; zeros stay zero. No axis is shrunk below 16 voxels.

    Args:
        iterations: at most, per fitting level; each level doubles the control points.

    Raises:
        ImportError: SimpleITK is not installed.
        ValueError: ``shrink`` below 1, or no ``iterations``.
        DataError: negative or NaN voxels (correct before normalising) or an image of zeros only, naming the file.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 50, 50),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not INSTALLED:
            raise ImportError("BiasCorrectionN4d needs SimpleITK, which is not installed; pip install SimpleITK, or leave it out")
        if shrink < 1:
            raise ValueError(f"shrink must be at least 1, got {shrink}; 1 fits at full resolution")
        if not iterations or min(iterations) < 1:
            raise ValueError(f"iterations must be numbers of at least 1, one per fitting level, got {list(iterations)}")
        self.shrink = shrink
        self.iterations = tuple(iterations)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            name = str(image.meta.get("filename_or_obj", key)) if isinstance(image, MetaTensor) else str(key)
            corrected = image.clone()
            for channel, voxels in enumerate(image):
                if not (voxels.min() >= 0 and voxels.any()):
                    wrong = "negative or NaN voxels" if voxels.any() else "only zeros"
                    raise DataError(
                        f"{name} has {wrong} in channel {channel}; N4 needs raw MR intensities: correct before normalising"
                    )
                corrected[channel] = torch.as_tensor(self._correct(np.asarray(voxels, np.float32))).to(voxels)
            result[key] = corrected
        return result

    def _correct(self, voxels: np.ndarray) -> np.ndarray:
        image = SimpleITK.GetImageFromArray(voxels)
        factors = [max(1, min(self.shrink, size // 16)) for size in image.GetSize()]
        corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
        corrector.SetMaximumNumberOfIterations(self.iterations)
        small = SimpleITK.Shrink(image, factors)
        corrector.Execute(small, SimpleITK.Cast(small > 0, SimpleITK.sitkUInt8))
        log_bias = SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
        return voxels / np.exp(log_bias)
