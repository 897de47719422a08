"""Fields on disk beside the images they made, so that what reads an image later can also read how it was moved."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from monai_advdef.neighbours import whole
from monai_advdef.switches import as_written
from monai_advdef.synthesis.fields import Fields


class FieldStore:
    """One ``.npz`` of control points per changed image, named by the digest of that image.

    Args:
        folder: made when the first file is written.
    """

    @as_written
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def save(self, fields: Fields, image: Tensor) -> None:
        """Keep ``fields`` for the images (B, C, \\*S) that they made, as they are handed on."""
        for i, x in enumerate(image):
            with whole(self._path(x)) as temporary, open(temporary, "wb") as file:
                np.savez(
                    file,
                    displacement=fields.displacement_points[i].detach().cpu().numpy(),
                    intensity=fields.intensity_points[i].detach().cpu().numpy(),
                    spacing=np.array(fields.spacing),
                )

    def load(self, image: Tensor) -> Fields:
        """The fields, on the CPU, that made one image (C, \\*S), as a batch of one.

        Raises:
            FileNotFoundError: none are kept for this image.
        """
        path = self._path(image)
        if not path.exists():
            raise FileNotFoundError(
                f"no fields for this image in {str(self.folder)!r}: give attack and handler the same fields_dir, store images as "
                "float32, and empty the attack's cache_dir if fields_dir was emptied"
            )
        with np.load(path) as stored:
            points = [torch.from_numpy(stored[name])[None] for name in ("displacement", "intensity")]
            return Fields(points[0], points[1], tuple(image.shape[1:]), stored["spacing"].tolist())

    def _path(self, image: Tensor) -> Path:
        plain = image.detach().cpu().float()
        plain = plain.as_tensor() if hasattr(plain, "as_tensor") else plain
        return self.folder / f"{hashlib.sha256(plain.contiguous().numpy().tobytes()).hexdigest()[:16]}.npz"
