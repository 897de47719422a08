"""What a corruption is: a seeded MONAI transform with a severity, exact at 0, that keeps unit, value range, type and metadata."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_advdef.corruptions.scales import SEVERITIES, TOP, UNITS, Scale
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Setting:
    """What one image is corrupted with.

    Attributes:
        values: the physical parameters by name.
        entropy: what its random numbers come from.
        spacing: of the spatial axes in mm; empty where the corruption needs none.
        low, high: (C, 1, ...) the valid range of each channel.
        unit: of the image.
    """

    values: dict[str, float]
    entropy: tuple[int, ...]
    spacing: tuple[float, ...]
    low: Array
    high: Array
    unit: str

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def rng(self) -> np.random.Generator:
        """A generator at its beginning: image and label draw the same numbers, and every severity does."""
        return np.random.default_rng(self.entropy)


class Corruption(Transform):
    """Corrupt one image, (C, H, W) or (C, H, W, D), array or tensor; subclasses say how.

    The random numbers come from ``seed`` and the voxels: the same image gives the same result in every batch, and an image is
    corrupted in the same way at every severity, only more or less. Severity 0 gives back what came. Results are clipped to the value
    range; an image of whole numbers comes back in whole numbers.

    Args:
        severity: a number in [0, 5]; :data:`SEVERITIES` has the physical values at 1 to 5, between which they are interpolated.
        seed: of the random numbers, a whole number ≥ 0.
        unit: of the image, a word of :data:`UNITS` for its modality. ``None``: the modality's own; of MRI "σ" where the image has
            negative values, else "signal".
        value_range: ``(low, high)`` of valid values, or one such pair per channel. ``None``: the modality's own; MRI has none.
        spacing: of the spatial axes in mm, where the image carries none.

    Raises:
        ValueError: a severity outside [0, 5], a seed below 0; a unit of another modality, with the corruptions for it; when called,
            an image that contradicts unit, range or channels, or a label on another grid. (:class:`monai_advdef.errors.DataError`
            where the image is at fault.)
    """

    backend = [TransformBackends.NUMPY]
    needs_spacing: ClassVar[bool] = False
    """Whether a parameter is in mm."""
    moves: ClassVar[bool] = False
    """Whether labels follow."""
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    """Of space, that it is for."""
    own_range: ClassVar[Any] = (0.0, 255.0)
    """The value range that goes without saying."""

    @as_written
    def __init__(
        self,
        *,
        severity: float = 3.0,
        seed: int = 0,
        unit: str | None = None,
        value_range: Sequence[float] | Sequence[Sequence[float]] | None = None,
        spacing: Sequence[float] | float | None = None,
    ) -> None:
        number = isinstance(severity, (int, float)) and not isinstance(severity, bool)
        if not number or not 0 <= severity <= TOP:
            raise ValueError(f"severity must be a number in [0, {TOP}], got {severity!r}; 0 changes nothing, {TOP} is the worst")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed must be a whole number ≥ 0, got {seed!r}")
        if unit is not None and unit not in UNITS[self.scale.modality]:
            raise ValueError(self._stranger(f"and this image is in {unit}"))
        self.severity, self.seed, self.unit, self.spacing = float(severity), seed, unit, spacing
        self.value_range = self.own_range if value_range is None else value_range
        pairs = np.asarray(self.value_range, dtype=float) if not isinstance(self.value_range, str) else np.empty(1)
        if pairs.size % 2 or not (pairs.reshape(-1, 2)[:, 0] < pairs.reshape(-1, 2)[:, 1]).all():
            raise ValueError(f"value_range must be (low, high) with low < high, or one such pair per channel, got {value_range!r}")

    @property
    def scale(self) -> Scale:
        """Its entry in :data:`SEVERITIES`."""
        return SEVERITIES[type(self).__name__]

    def parameters(self, severity: float | None = None) -> dict[str, tuple[float, str]]:
        """Value and unit of each physical parameter, at its own severity or another."""
        at = self.severity if severity is None else severity
        return {p.name: (p.at(at), p.unit) for p in self.scale.parameters}

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """The corrupted image, of the type and dtype of the given one."""
        return self.both(img)[0]

    def both(self, img: NdarrayOrTensor, *labels: NdarrayOrTensor) -> tuple[NdarrayOrTensor, ...]:
        """The corrupted image, and labels (K, \\*S) on its grid that went the same way (by nearest neighbour)."""
        image = self._as_array(img)
        for label in labels:
            if tuple(label.shape[1:]) != image.shape[1:]:
                raise DataError(
                    f"label has shape {tuple(label.shape[1:])} and the image {image.shape[1:]} behind the channels; load "
                    "both on one grid (MONAI's ResampleToMatchd), and corrupt them then"
                )
        self._check_shape(image)
        spacing = self._spacing(img) if self.needs_spacing else ()
        at = self._setting(image, spacing)
        if self.severity == 0:
            return (img, *labels)
        made = self.corrupt(image, at)
        if np.isfinite(at.low).any() or np.isfinite(at.high).any():
            made = np.clip(made, at.low, at.high)
        found = [_like(np.round(made) if _whole(image) else made, img)]
        for label in labels:
            plain = _plain(label)
            moved = self.move(plain.astype(np.uint8) if plain.dtype == bool else plain, at) if self.moves else plain
            found.append(_like(moved, label) if self.moves else label)
        return tuple(found)

    def corrupt(self, image: Array, at: Setting) -> Array:
        """The image (C, \\*S), floating, after what ``at`` says; neither clipped nor rounded."""
        raise NotImplementedError

    def move(self, label: Array, at: Setting) -> Array:
        """A label (K, \\*S) where the image went; the same label unless a corruption ``moves``."""
        return label

    def check_values(self, image: Array, unit: str) -> None:
        """Refuse an image that contradicts its unit; what a modality knows of it.

        Raises:
            DataError: naming what the image holds, and the remedy.
        """

    def unit_of(self, image: Array) -> str:
        """The unit of an image that nobody told."""
        return UNITS[self.scale.modality][0]

    def _setting(self, image: Array, spacing: tuple[float, ...]) -> Setting:
        unit = self.unit or self.unit_of(image)
        low, high = self._range(image)
        axes = tuple(range(1, image.ndim))
        if bool((image.min(axes, keepdims=True) < low).any()) or bool((image.max(axes, keepdims=True) > high).any()):
            raise DataError(
                f"the image spans [{image.min():g}, {image.max():g}], outside value_range {self.value_range} ({unit}); give "
                "the range in which it is stored as value_range"
            )
        self.check_values(image, unit)
        values = {p.name: p.at(self.severity) for p in self.scale.parameters}
        entropy = (self.seed, zlib.crc32(np.ascontiguousarray(image).data))
        return Setting(values, entropy, spacing, low.astype(image.dtype), high.astype(image.dtype), unit)

    def _as_array(self, img: NdarrayOrTensor) -> Array:
        image = _plain(img)
        image = image if image.dtype == np.float64 else image.astype(np.float32)
        if not np.isfinite(image).all():
            raise DataError("the image holds NaN or infinite values; clean it before (MONAI's SignalFillEmpty, for example)")
        return image

    def _check_shape(self, image: Array) -> None:
        dims, name = image.ndim - 1, type(self).__name__
        if dims not in self.dimensions:
            allowed = " or ".join(f"{d}D" for d in self.dimensions)
            raise DataError(
                f"{name} is for {allowed} images, channels first, and this one has shape {image.shape}; "
                f"{'it acts across slices, so give the whole volume' if dims == 2 else 'give (C, H, W)'}"
            )

    def _spacing(self, img: NdarrayOrTensor) -> tuple[float, ...]:
        """Of the spatial axes, in mm: as told, else as the affine says."""
        dims = img.ndim - 1
        if self.spacing is not None:
            told = [self.spacing] * dims if isinstance(self.spacing, (int, float)) else [float(s) for s in self.spacing]
            if len(told) != dims or not all(math.isfinite(s) and s > 0 for s in told):
                raise ValueError(f"spacing must be {dims} numbers > 0 in mm, one per spatial axis, got {self.spacing}")
            return tuple(float(s) for s in told)
        name = type(self).__name__
        if not isinstance(img, MetaTensor):
            raise DataError(
                f"{name} is in mm, and the image carries no spacing; give spacing=(..., ...), or load it with MONAI's LoadImage"
            )
        found = torch.linalg.vector_norm(img.affine[:3, :dims].double(), dim=0).tolist()
        unread = "original_affine" not in img.meta and torch.equal(img.affine.double(), torch.eye(len(img.affine)).double())
        if unread or not all(math.isfinite(s) and s > 0 for s in found):
            raise DataError(
                f"{name} is in mm, and the affine of the image says nothing of its spacing (it is the identity, of no file, or "
                "singular); give spacing=(..., ...) in mm"
            )
        return tuple(found)

    def _range(self, image: Array) -> tuple[Array, Array]:
        ones = (-1,) + (1,) * (image.ndim - 1)
        pairs = np.asarray(self.value_range, dtype=float).reshape(-1, 2)
        if len(pairs) not in (1, len(image)):
            raise ValueError(f"value_range has {len(pairs)} pairs for {len(image)} channels; give one pair, or one per channel")
        return pairs[:, 0].reshape(ones), pairs[:, 1].reshape(ones)

    def _stranger(self, why: str) -> str:
        """Words for an image of another modality, with what there is for it."""
        name, modality = type(self).__name__, self.scale.modality
        others = "; ".join(f"{m}: {', '.join(of(m))}" for m in UNITS if m != modality)
        return (
            f"{name} is a corruption of {modality}, whose images are in {' or '.join(UNITS[modality])}, {why}; take one of its own "
            f"modality ({others})"
        )


def of(modality: str) -> list[str]:
    """The names of the corruptions of a modality, a key of :data:`UNITS`."""
    return [name for name, scale in SEVERITIES.items() if scale.modality == modality]


def _whole(image: Array) -> bool:
    """Whether all values are whole numbers; most images that hold others show it in their first channel's first line."""
    first = image[(0,) * (image.ndim - 1)]
    return bool((first == np.round(first)).all()) and bool((image == np.round(image)).all())


def _plain(img: NdarrayOrTensor) -> Array:
    found = convert_to_tensor(img, track_meta=False)
    return found.detach().cpu().numpy()


def _like(made: Array, given: NdarrayOrTensor) -> NdarrayOrTensor:
    """An array as the type, dtype and device of what was given, with its metadata."""
    made = np.ascontiguousarray(made)
    if type(given) is torch.Tensor:
        return torch.from_numpy(made).to(given)
    return convert_to_dst_type(made, given)[0]
