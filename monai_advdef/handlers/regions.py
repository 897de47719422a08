"""What clinicians read off a segmented volume: unions of classes, surface distances in mm, and volumes in ml."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

from monai_advdef.dicom.units import check_voxel_size, unit_of_meta
from monai_advdef.handlers.batches import entry
from monai_advdef.handlers.cell import Engine, add_readings, items_of, label_map
from monai_advdef.metrics import counts, dice
from monai_advdef.switches import as_written


class RegionHandler:
    """Measures, for the records, every class and every region (a union of classes) of each predicted volume in physical units.

    For a class: ``hd95_mm``, ``volume_error_ml`` (predicted minus labelled). For a region: ``region_dice``, ``region_hd95_mm`` and
    ``region_volume_error_ml``, names of their own, so that means over classes stay means over classes. Rule for empty masks, that of
    the BraTS challenge: both empty is a Dice of 1 and a distance of 0; only one of them, a Dice of 0 and the diagonal of the field
    of view (373.1 mm for 240 x 240 x 155 mm). List it before the ``RecordHandler``.

    Args:
        classes: names of the foreground classes in order; class maps hold 1..n.
        regions: name to the numbers of its classes.
        distances: false leaves the surface distances out, which cost more than all the rest.
        image_key, pred_key, label_key: keys of the batch and the output; class maps (1, \\*S) or one-hot (n + 1, \\*S). The image
            carries the affine, in mm or in the unit that MONAI's reader of NIfTI kept in its metadata, or the voxels count as 1 mm.

    Raises:
        ValueError: a region of a class that does not exist; when called, a :class:`DataError` for voxels of an implausible size.

    Source: Menze et al., "The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)", IEEE TMI 2015, for regions and HD95.
    """

    @as_written
    def __init__(
        self,
        classes: Sequence[str],
        regions: Mapping[str, Sequence[int]] | None = None,
        *,
        distances: bool = True,
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
    ) -> None:
        self.classes, self.regions, self.distances = list(classes), dict(regions or {}), distances
        for name, numbers in self.regions.items():
            if not numbers or not all(1 <= n <= len(self.classes) for n in numbers):
                raise ValueError(f"regions: {name!r} must be made of classes 1..{len(self.classes)}, got {list(numbers)}")
        self.image_key, self.pred_key, self.label_key = image_key, pred_key, label_key

    def attach(self, engine: Engine) -> None:
        """Measure after every batch."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        items, outputs = items_of(engine.state.batch), items_of(engine.state.output)
        found = [entry(output, self.pred_key, "pred_key", "the output") for output in outputs]
        true = [entry(output, self.label_key, "label_key", "the output") for output in outputs]
        measured = [self.measure(f, t, item[self.image_key]) for f, t, item in zip(found, true, items)]
        add_readings(engine, measured)

    def measure(self, prediction: Tensor, label: Tensor, image: Tensor) -> dict[tuple[str, str], float]:
        """Values by (class or region, metric) of one case."""
        spacing, extent = _geometry(image)
        voxel = math.prod(spacing) / 1000
        values: dict[tuple[str, str], float] = {}
        k = len(self.classes) + 1
        pred, truth = label_map(prediction, "the prediction", k), label_map(label, "the label", k, hard=True)
        parts: list[tuple[str, str, Sequence[int]]] = [(name, "", (number,)) for number, name in enumerate(self.classes, start=1)]
        parts += [(name, "region_", numbers) for name, numbers in self.regions.items()]
        for name, prefix, numbers in parts:
            found, labelled = (torch.stack([m == n for n in numbers]).any(0) for m in (pred, truth))
            if prefix:
                values[name, "region_dice"] = float(dice(*counts(found[None, None], labelled[None, None])))
            if self.distances:
                values[name, f"{prefix}hd95_mm"] = _hd95(found, labelled, spacing, extent)
            values[name, f"{prefix}volume_error_ml"] = voxel * float(found.sum() - labelled.sum())
        return values


def _hd95(prediction: Tensor, label: Tensor, spacing: Sequence[float], extent: float) -> float:
    filled = bool(prediction.any()), bool(label.any())
    if not all(filled):
        return extent if any(filled) else 0.0
    a, b = prediction[None, None].float(), label[None, None].float()
    return float(compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing)))


def voxel_spacing(image: Tensor) -> list[float]:
    """The size of a voxel of an image (C, \\*S) along each axis in mm, by the affine and unit in its metadata; 1 without them.

    Raises:
        DataError: an unknown unit, or an implausible size, naming the file.
    """
    if not isinstance(image, MetaTensor):
        return [1.0] * (image.ndim - 1)
    unit = unit_of_meta(image.meta)
    spacing = [unit * size for size in image.pixdim.tolist()][: image.ndim - 1]  # MONAI 1.6.0 has three of a picture, too
    check_voxel_size(np.diag([*spacing, 1.0][:3]), str(image.meta.get("filename_or_obj", "the image")))
    return spacing


def _geometry(image: Tensor) -> tuple[list[float], float]:
    """Voxel spacing in mm, and the diagonal of the field of view as the image was loaded."""
    spacing = voxel_spacing(image)
    shape: Sequence[float] = image.shape[1:]
    if isinstance(image, MetaTensor):
        shape = torch.as_tensor(image.meta.get("spatial_shape", shape)).tolist()
    return spacing, math.dist([s * n for s, n in zip(spacing, shape)], [0.0] * len(spacing))
