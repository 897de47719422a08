"""What an evaluation on the files' grid measures beyond Dice: distances in mm, lesions, volumes, and Dice on the network's grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from torch import Tensor

from monai_advdef.audit.scoring.forms import background_first
from monai_advdef.audit.scoring.grid import OWN_LABEL, OWN_PRED
from monai_advdef.audit.scoring.surfaces import Structure, components_found, structures, surfaces
from monai_advdef.audit.scoring.way_back import grid_of, in_pixels
from monai_advdef.dicom.units import check_voxel_size, unit_of_meta
from monai_advdef.handlers.batches import entry
from monai_advdef.handlers.cell import Engine, add_readings, announce, items_of
from monai_advdef.metrics import counts, dice
from monai_advdef.switches import as_written

logger = logging.getLogger(__name__)
APART = 0.005  # of two mean Dice, from which on it is told

Values = dict[tuple[str, str], float]


class GridHandler:
    """Measures every class of each case on the grid of its files, for the records.

    Of a volume whose voxels have a size: ``nsd`` (normalised surface Dice at ``tolerance`` mm), ``hd95_mm``, ``component_recall``
    and ``component_precision``, ``volume_change_ml`` (predicted minus labelled), ``volume_change_percent`` of what is labelled,
    ``structure_ml`` (what is labelled). Of an image of unknown size, as pictures are, everything is in pixels: ``hd95_px``,
    ``area_change_px``, ``structure_px``; of a plane of known size areas are in mm2. ``network_dice`` is the Dice of what the
    bundle's own postprocessing left. See :mod:`monai_advdef.audit.scoring.surfaces` for what each is, and whose.

    Rule for empty masks: both empty is an ``nsd``, recall and precision of 1 and a distance of 0; only one of them, 0 and the
    diagonal of the field of view. Where nothing is labelled there is no change in per cent. List it before the ``RecordHandler``.

    Args:
        classes: names of the foreground classes.
        activation: ``"softmax"``: class maps (1, \\*S) of 1..n; ``"sigmoid"``: a mask per class (K, \\*S).
        tolerance: of the surface Dice, in mm, or in pixels where no size is known.
        overlap: a component counts where more than this share of it is hit, in [0, 1).
        distances: false leaves out surface Dice and distance, which cost more than all the rest.
        pred_key, label_key: keys of the output; the label carries affine and file name.

    Raises:
        ValueError: a negative tolerance, an overlap outside [0, 1).
    """

    @as_written
    def __init__(
        self,
        classes: Sequence[str],
        *,
        activation: str = "softmax",
        tolerance: float = 2.0,
        overlap: float = 0.0,
        distances: bool = True,
        pred_key: str = "pred",
        label_key: str = "label",
    ) -> None:
        if not tolerance >= 0 or not 0 <= overlap < 1:
            raise ValueError(f"tolerance must be >= 0 and overlap in [0, 1), got {tolerance} and {overlap}; 2 and 0 are usual")
        self.classes, self.activation = list(classes), activation
        self.tolerance, self.overlap, self.distances = tolerance, overlap, distances
        self.pred_key, self.label_key = pred_key, label_key
        self.pairs: list[tuple[float, float]] = []

    def attach(self, engine: Engine) -> None:
        """Say how is measured, measure after every batch, and tell at the end where the two grids disagree."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.completed)

    def started(self, engine: Engine) -> None:
        """Forget the last evaluation."""
        self.pairs = []
        announce(engine, "grid", {"tolerance": self.tolerance, "overlap": self.overlap, "distances": self.distances})

    def completed(self, engine: Engine) -> None:
        """Tell where the mean Dice on the files' grid is another than on the network's."""
        if words := self.disagreement():
            logger.warning("%s", words)

    def disagreement(self) -> str:
        """What is to be told of the two grids after an evaluation; empty where their mean Dice are within .005."""
        if not self.pairs:
            return ""
        return grids_apart(*np.mean(self.pairs, axis=0))

    def __call__(self, engine: Engine) -> None:
        add_readings(engine, [self._case(output) for output in items_of(engine.state.output)])

    def _case(self, output: dict[str, Tensor]) -> Values:
        keys = {"pred": self.pred_key, "label": self.label_key, "own_pred": OWN_PRED, "own_label": OWN_LABEL}
        pred, label, own_pred, own_label = (entry(output, key, f"{n}_key", "the output") for n, key in keys.items())
        values = self.measure(pred, label)
        own, file = (self._dice(*pair) for pair in ((own_pred, own_label), (pred, label)))
        first = int(background_first(self.classes, self.activation))
        self.pairs += list(zip(own, file))[first:]
        return values | {(name, "network_dice"): value for name, value in zip(self.classes, own)}

    def _dice(self, pred: Tensor, label: Tensor) -> list[float]:
        classes = len(self.classes) + 1 if self.activation == "softmax" else None
        found, true = (torch.as_tensor(x).as_subclass(Tensor).cpu()[None] for x in (pred, label))
        return dice(*counts(found, true, classes))[0].tolist()

    def measure(self, pred: Tensor, label: Tensor) -> Values:
        """Values by (class, metric) of one case: prediction and label (1, \\*S) or (K, \\*S)."""
        found, true = (torch.as_tensor(x).as_subclass(Tensor).cpu().numpy() for x in (pred, label))
        spacing, unit = voxel_size(label)
        values: Values = {}
        reach = math.dist([0.0] * len(spacing), [s * n for s, n in zip(spacing, true.shape[1:])])
        maps = self.activation == "softmax"
        both = (structures(x, len(self.classes), maps=maps) for x in (found, true))
        for name, one, other in zip(self.classes, *both):
            values |= {(name, metric): value for metric, value in self._structure(one, other, spacing, unit, reach).items()}
        return values

    def _structure(self, found: Structure, true: Structure, spacing: tuple[float, ...], unit: str, reach: float) -> dict[str, float]:
        values: dict[str, float] = {}
        predicted, labelled = len(found), len(true)
        if self.distances:
            if predicted and labelled:
                apart = surfaces(found, true, spacing)
                values["nsd"], values[f"hd95_{unit}"] = apart.dice(self.tolerance), apart.hausdorff()
            else:
                values["nsd"], values[f"hd95_{unit}"] = (0.0, reach) if predicted or labelled else (1.0, 0.0)
        values["component_recall"], values["component_precision"] = components_found(found, true, self.overlap)
        volume = unit == "mm" and len(spacing) == 3
        size, measure = (math.prod(spacing) / 1000, "ml") if volume else (math.prod(spacing), "mm2" if unit == "mm" else "px")
        what = "volume" if len(spacing) == 3 else "area"
        values[f"{what}_change_{measure}"] = size * (predicted - labelled)
        if labelled or not predicted:
            values[f"{what}_change_percent"] = 100 * (predicted - labelled) / max(labelled, 1)
        return values | {f"structure_{measure}": size * labelled}


def grids_apart(on_network_grid: float, on_file_grid: float) -> str:
    """What is to be told of two mean Dice of the same predictions; empty where they are within .005."""
    if not abs(on_network_grid - on_file_grid) > APART:
        return ""
    return (
        f"mean Dice is {on_file_grid:.4f} on the grid of the label files, which counts, and {on_network_grid:.4f} on what the "
        "model's own postprocessing leaves: the network's grid, or a label that was resampled on the way"
    )


def voxel_size(label: Tensor) -> tuple[tuple[float, ...], str]:
    """The size of a voxel of a label (C, \\*S) along each axis and its unit: ``"mm"``, or 1 ``"px"`` where its format tells none.

    Raises:
        DataError: an unknown unit of length, or an implausible size, naming the file.
    """
    if not isinstance(label, MetaTensor) or in_pixels(label):
        return (1.0,) * (label.ndim - 1), "px"
    affine = unit_of_meta(label.meta) * grid_of(label).affine  # of a plane, too, whatever plane of the patient it is
    check_voxel_size(affine, str(label.meta["filename_or_obj"]))
    return tuple(np.linalg.norm(affine[:3, :3], axis=0)[: label.ndim - 1].tolist()), "mm"
