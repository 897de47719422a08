"""The diagnosis of every case of an evaluation, from the mask that the segmentation network has just drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import decollate_batch
from monai.engines.utils import IterationEvents
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_advdef.data import DataError
from monai_advdef.defenses import DefendedInferer
from monai_advdef.diagnosis.locate import Disc, DiscCropper, find_disc
from monai_advdef.diagnosis.readers import Reader
from monai_advdef.diagnosis.transforms import POSITIVE
from monai_advdef.errors import nearest

POSITIONS = ("prediction", "benign", "truth")


class DiagnosisHandler:
    """Crops the image that the network saw (attacked, then defended) around the predicted disc, reads the crop, and leaves
    ``engine.state.readings``: per case a dictionary by (class, metric) for the records.

    ======================================  =================================================================================
    ``("glaucoma", reader.name)``           the reading: ``cup_disc_ratio`` or ``probability``
    ``("glaucoma", "positive_<name>")``     1 where it reaches its threshold, else 0
    ``("glaucoma", "truth")``               1 where the case's ``diagnosis`` is glaucoma, else 0
    ``("optic disc", "crop_shift_px")``     from the crop's centre to that of the clean, undefended image's prediction, pixels
    ``("optic disc", "disc_found")``        0 where the predicted mask is empty (the crop is then the middle of the image)
    ======================================  =================================================================================

    The crop's position follows Agrawal et al. (arXiv 1809.05216); which image is cropped and what an empty mask means is our choice.
    It works after the postprocessing and before the records are written. A stochastic defence is drawn anew.

    Args:
        readers: what reads the crops, see :class:`Reader`.
        crop_from: where the crop is: at the ``"prediction"``, at the ``"benign"`` one (of the clean, undefended image: an attack
            cannot move it), or at the ``"truth"``. The disc of the cup/disc ratio is the predicted one always.
        side, disc_diameters: see :class:`DiscCropper`.
        vertical_axis: see :class:`CupDiscRatio`.
        structure: the class name of the last two readings.
        image_key, pred_key, label_key, diagnosis_key: keys of the batch and the output.

    Raises:
        ValueError: unknown ``crop_from``.
        DataError: during the run, a case without diagnosis.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        *,
        crop_from: str = "prediction",
        side: int = 96,
        disc_diameters: float | None = None,
        vertical_axis: int = 1,
        structure: str = "optic disc",
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
        diagnosis_key: str = "diagnosis",
    ) -> None:
        if crop_from not in POSITIONS:
            raise ValueError(f"no crop_from {crop_from!r}; {nearest(crop_from, POSITIONS)}")
        self.readers, self.crop_from, self.structure = list(readers), crop_from, structure
        self.cropper = DiscCropper(side=side, disc_diameters=disc_diameters)
        self.vertical_axis = vertical_axis
        self.image_key, self.pred_key, self.label_key, self.diagnosis_key = image_key, pred_key, label_key, diagnosis_key

    def attach(self, engine: Engine) -> None:
        """Read every batch right after the segmentation of it."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        batch, output = _items(engine.state.batch), _items(engine.state.output)
        truth = [self._truth(item) for item in batch]
        seen = torch.stack([convert_to_tensor(item[self.image_key], track_meta=False) for item in batch]).to(engine.state.device)
        predicted = [find_disc(_foreground(out[self.pred_key])) for out in output]
        benign = self._benign(engine, seen, predicted)
        drawn = [find_disc(_foreground(out[self.label_key])) for out in output]
        places = {"prediction": predicted, "benign": benign, "truth": drawn}[self.crop_from]
        inferer = engine.inferer
        with torch.no_grad():
            defended = inferer.defense(seen) if isinstance(inferer, DefendedInferer) else seen
        crops = torch.stack([self.cropper(image, place) for image, place in zip(defended, places)])
        scales = [self.cropper.side / self.cropper.cut(place) for place in places]
        extents = [disc.extent[self.vertical_axis] * scale for disc, scale in zip(predicted, scales)]
        readings = {reader: reader(crops, extents).tolist() for reader in self.readers}
        fresh = getattr(engine.state, "read_at", None) == engine.state.iteration
        before = (fresh and engine.state.readings) or [{}] * len(batch)  # of other handlers on this batch
        engine.state.read_at = engine.state.iteration
        engine.state.readings = [
            {
                **before[i],
                **{key: value for r, values in readings.items() for key, value in _reading(r, values[i])},
                (POSITIVE, "truth"): truth[i],
                (self.structure, "crop_shift_px"): places[i].distance(benign[i]),
                (self.structure, "disc_found"): float(predicted[i].found),
            }
            for i in range(len(batch))
        ]

    def _truth(self, item: dict[str, Any]) -> float:
        if self.diagnosis_key not in item:
            raise DataError(
                f"the case {item.get('case', '?')!r} has no {self.diagnosis_key!r}; write a labels.csv with the columns "
                "image,diagnosis beside images/, or evaluate without diagnosis.yaml"
            )
        return float(item[self.diagnosis_key] == POSITIVE)

    def _benign(self, engine: Any, seen: Tensor, predicted: list[Disc]) -> list[Disc]:
        """The discs that the network finds in the clean images without a defence."""
        attacked = getattr(engine.state, "attack", None)
        clean = attacked.clean if attacked is not None and attacked.iteration == engine.state.iteration else None
        inferer = engine.inferer
        if clean is None and not isinstance(inferer, DefendedInferer):
            return predicted
        bare = inferer.inferer if isinstance(inferer, DefendedInferer) else inferer
        with eval_mode(engine.network), torch.no_grad():
            logits = bare(seen if clean is None else clean.to(seen.device), engine.network)
        return [find_disc(_foreground(one)) for one in logits]


def _reading(reader: Reader, value: float) -> list[tuple[tuple[str, str], float]]:
    return [((POSITIVE, reader.name), value), ((POSITIVE, f"positive_{reader.name}"), reader.decide(value))]


def _items(batch: Any) -> list[dict[str, Any]]:
    return batch if isinstance(batch, list) else decollate_batch(batch)


def _foreground(mask: Tensor) -> Tensor:
    """``(W, H)``, true on every class but the first: from a class map ``(1, W, H)``, one-hot masks or logits ``(K, W, H)``."""
    return mask[0] > 0 if len(mask) == 1 else mask.argmax(0) > 0
