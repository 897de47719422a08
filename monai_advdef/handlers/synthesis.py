"""What an attack by deformation and intensity change did to each case, for the records."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor

from monai_advdef.handlers.attack import Attacked, AttackNotApplied
from monai_advdef.handlers.cell import Engine, add_readings, items_of, label_map
from monai_advdef.handlers.regions import voxel_spacing
from monai_advdef.metrics import counts, dice
from monai_advdef.switches import as_written
from monai_advdef.synthesis import FieldStore, field_readings, warped_label
from monai_advdef.victim import Victim


class SynthesisHandler:
    """Reads the fields behind every attacked image, measures them, and leaves the values for the ``RecordHandler``.

    For the class ``image``: ``displacement_max_mm``, ``displacement_mean_mm``, ``intensity_max``, ``intensity_rms`` and
    ``change_rms`` in image units, ``perceptibility`` in sigma of the clean image, ``ssim`` and ``min_jacobian`` (above 0: no fold).
    For every organ: ``clean_dice``; ``warped_dice``, that of the prediction and the label moved along with the image, which tells
    failure from motion; and ``motion_dice``, that of the moved label and the label: what a perfect segmenter of the moved image
    would reach. For each of these Dices and for the attacked one (no prefix), ``[clean_|warped_|motion_]common_voxels``, which both
    masks hold, and ``..._masked_voxels``, those of the one and of the other, so that Dice can be pooled over the slices of a
    patient: 2 common / masked. It measures before the iteration ends, so it may stand before or after the ``RecordHandler``.

    Args:
        classes: names of the foreground classes in order.
        fields_dir: as given to the ``SynthesisAttack`` or ``FieldAttack`` of this run.
        activation: ``"softmax"`` or ``"sigmoid"``.
        image_key, pred_key, label_key: keys of the batch and the output; the image carries the spacing, or voxels count as 1 mm.

    Raises:
        AttackNotApplied: a batch that no attack has touched.
        FileNotFoundError: no fields are kept for an image.
    """

    @as_written
    def __init__(
        self,
        classes: Sequence[str],
        fields_dir: str | os.PathLike[str],
        *,
        activation: str = "softmax",
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
    ) -> None:
        self.classes, self.store, self.activation = list(classes), FieldStore(fields_dir), activation
        self.image_key, self.pred_key, self.label_key = image_key, pred_key, label_key

    def attach(self, engine: Engine) -> None:
        """Measure after every batch, before the postprocessing."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def started(self, engine: Engine) -> None:
        """Nothing is measured yet."""
        engine.state.readings = None  # type: ignore[attr-defined]

    def __call__(self, engine: Engine) -> None:
        attacked: Attacked | None = getattr(engine.state, "attack", None)
        if attacked is None or attacked.iteration != engine.state.iteration:
            raise AttackNotApplied(f"no attack touched batch {engine.state.iteration}; list an attack that keeps its fields_dir")
        items, outputs = items_of(engine.state.batch), items_of(engine.state.output)
        clean = self._clean_predictions(engine, attacked.clean)
        measured = [
            self.measure(output[self.pred_key], prediction, output[self.label_key], item[self.image_key], image)
            for item, output, prediction, image in zip(items, outputs, clean, attacked.clean)
        ]
        add_readings(engine, measured)

    def measure(
        self, prediction: Tensor, clean_prediction: Tensor, label: Tensor, image: Tensor, clean: Tensor
    ) -> dict[tuple[str, str], float]:
        """Values by (class, metric) of one case: masks (1|K, \\*S), images (C, \\*S)."""
        spacing = voxel_spacing(image)
        made, clean = (x.detach().cpu().float()[None] for x in (image, clean))
        made = made.as_tensor() if hasattr(made, "as_tensor") else made
        fields = self.store.load(image)
        values = {("image", name): float(v) for name, v in field_readings(fields, made, clean, spacing).items()}
        masks = [self._mask(m) for m in (prediction, clean_prediction, label)]
        moved = warped_label(masks[2][None], fields)[0].to(masks[2].dtype)
        pairs = {"": (masks[0], masks[2]), "clean_": (masks[1], masks[2])}
        pairs |= {"warped_": (masks[0], moved), "motion_": (moved, masks[2])}
        classes = len(self.classes) + 1 if self.activation == "softmax" else None
        for prefix, (found_mask, true_mask) in pairs.items():
            common, found, true = counts(found_mask[None], true_mask[None], classes)
            metrics = {"dice": dice(common, found, true), "common_voxels": common, "masked_voxels": found + true}
            values |= {(name, prefix + m): float(v[0, k]) for m, v in metrics.items() for k, name in enumerate(self.classes)}
        return values

    def _mask(self, mask: Tensor) -> Tensor:
        """Class map (1, \\*S), or a mask per class (K, \\*S), on the CPU."""
        return label_map(mask)[None] if self.activation == "softmax" else torch.as_tensor(mask).detach().cpu()

    def _clean_predictions(self, engine: Engine, clean: Tensor) -> Tensor:
        victim = Victim(engine.network, inferer=engine.inferer, activation=self.activation)  # type: ignore[attr-defined]
        with victim.frozen(), torch.no_grad():
            return victim.predict(victim(clean.to(engine.state.device).float()))
