"""A case's files as nnU-Net's own reader gives them, and how its axes lie on the grid of the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from torch import Tensor

from monai_advdef.audit.nnunet.library import own, quiet
from monai_advdef.errors import DataError, reading

AXES = "nnunet_axes"  # of an image's metadata
KEPT = ("filename_or_obj", "original_affine", "spatial_shape", "space", "xyzt_units")  # of what MONAI's reader tells


@dataclass(frozen=True)
class Axes:
    """How the axes of nnU-Net's reader lie on the file's.

    Args:
        order: along which axis of the file each axis of the reader runs; -1: along none, it was added to a picture.
        flipped: which of the reader's axes run the other way.
        spacing: of the reader's axes, in mm.
    """

    order: tuple[int, ...]
    flipped: tuple[bool, ...]
    spacing: tuple[float, ...]

    def to_reader(self, x: Tensor) -> Tensor:
        """(C, \\*S) of the file -> (C, a, b, c) of the reader."""
        x = x.permute(0, *(1 + o for o in self.order if o >= 0))
        for axis, o in enumerate(self.order):
            x = x.unsqueeze(1 + axis) if o < 0 else x
        return torch.flip(x, self._turned)

    def to_file(self, x: Tensor) -> Tensor:
        """The way back."""
        x = torch.flip(x, self._turned)
        for axis, o in enumerate(self.order):
            x = x.squeeze(1 + axis) if o < 0 else x
        kept = [o for o in self.order if o >= 0]
        return x.permute(0, *(1 + kept.index(o) for o in range(len(kept))))

    @property
    def _turned(self) -> list[int]:
        return [1 + axis for axis, turned in enumerate(self.flipped) if turned]

    def text(self) -> str:
        """As JSON, for the metadata of an image."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Axes:
        """From :meth:`text`."""
        told = json.loads(text)
        return cls(**{name: tuple(values) for name, values in told.items()})


@dataclass(frozen=True)
class Read:
    """A ``file``: ``values`` (C, \\*S) in its own units, ``affine`` and ``meta`` of MONAI's reader, the axes of nnU-Net's."""

    file: str
    values: Tensor
    affine: Tensor
    meta: dict[str, Any]
    axes: Axes


def read_image(reader: str, files: Sequence[str]) -> Read:
    """The channels of one case, by nnU-Net's reader of that name.

    Raises:
        DataError: a file that cannot be read; one that MONAI, which scores on it, reads otherwise.
    """
    where = ", ".join(files)
    with reading(where, "cannot be read by nnU-Net's " + reader, "look at the file; its channels must lie on one grid"), quiet():
        held, told = _reader(reader).read_images([str(f) for f in files])
        axes = _axes(reader, str(files[0]), tuple(float(s) for s in told["spacing"]))
    values = axes.to_file(torch.from_numpy(np.ascontiguousarray(held)))
    with reading(files[0], "cannot be read by MONAI, which scores on it"):
        seen = _monai()(str(files[0]))
    same = values[: len(seen)]
    if same.shape != seen.shape or not torch.allclose(same, seen.as_tensor(), rtol=1e-4, atol=1e-4):
        raise DataError(
            f"{files[0]}: nnU-Net's {reader} reads {tuple(same.shape)} where MONAI reads {tuple(seen.shape)}, or other values, so "
            "the prediction cannot be laid over the labels; store it as a plain NIfTI file"
        )
    meta = {name: seen.meta[name] for name in KEPT if name in seen.meta}
    return Read(str(files[0]), values, seen.affine, {**meta, AXES: axes.text()}, axes)


def as_meta(x: Tensor, read: Read) -> MetaTensor:
    """With the geometry of the file, and the reader's axes for the way there."""
    return MetaTensor(x, affine=read.affine, meta=dict(read.meta))


@lru_cache(maxsize=1)
def _monai() -> LoadImage:
    return LoadImage(image_only=True, ensure_channel_first=True, dtype=np.float32)


def _reader(name: str) -> Any:
    return own("nnunetv2.imageio.reader_writer_registry").recursive_find_reader_writer_by_name(name)()


def _axes(reader: str, file: str, spacing: tuple[float, ...]) -> Axes:
    """SimpleITK's arrays have the last axis first; a reader that reorients has turned and flipped them before."""
    if reader == "NaturalImage2DIO":
        return Axes((-1, 1, 0), (False,) * 3, spacing)
    if reader == "SimpleITKIO":
        import SimpleITK as sitk

        told = sitk.ImageFileReader()
        told.SetFileName(file)
        told.ReadImageInformation()
        return Axes((-1, 1, 0) if told.GetDimension() == 2 else (2, 1, 0), (False,) * 3, spacing)
    if reader == "NibabelIO":
        return Axes((2, 1, 0), (False,) * 3, spacing)
    came_from, flipped = _sitk_turned(file) if reader == "SimpleITKIOWithReorient" else _nibabel_turned(file)
    return Axes(tuple(came_from[::-1]), tuple(flipped[::-1]), spacing)


def _sitk_turned(file: str) -> tuple[list[int], list[bool]]:
    """Of each axis after ``DICOMOrient(image, "RAS")``: which one it was, and whether it runs the other way."""
    import SimpleITK as sitk

    turn = sitk.DICOMOrientImageFilter()
    turn.SetDesiredCoordinateOrientation("RAS")
    turn.Execute(sitk.ReadImage(file))
    return [int(p) for p in turn.GetPermuteOrder()], [bool(f) for f in turn.GetFlipAxes()]


def _nibabel_turned(file: str) -> tuple[list[int], list[bool]]:
    import nibabel

    turns = nibabel.orientations.io_orientation(nibabel.load(file).affine)  # type: ignore[attr-defined]
    was = [int(np.flatnonzero(turns[:, 0] == axis)[0]) for axis in range(3)]
    return was, [bool(turns[w, 1] < 0) for w in was]
