"""Scoring as deployed: behind the model's own postprocessing, prediction and label on the grid of the label's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from monai_advdef.audit.dataset import AsDeployed
from monai_advdef.audit.label_files import CASE, decided, on_grid, settled
from monai_advdef.audit.way_back import WayBack, file_grid, grid_of, inverts, same_grid, steps
from monai_advdef.dicom.series_subject import Grid
from monai_advdef.errors import DataError

OWN_PRED, OWN_LABEL = "own_pred", "own_label"
AT_ONCE = 8  # channels of scores that are brought to the file's size together: of 105 classes all would not fit into memory


class OnFileGrid(Transform):
    """Postprocessing of one case: the model's own, and behind it ``pred`` and ``label`` on the grid of the label's file.

    What the model's own postprocessing has inverted (MONAI's ``Invertd``) stays as it is. What it has not is brought back by MONAI's
    inverse of the spatial transforms: class maps and masks by the nearest voxel, scores as the preprocessing interpolated, then the
    highest one (softmax), or all from .5 on (sigmoid). The label is the file's own content, which no spatial transform has touched.
    What the model's own postprocessing left of both is kept as ``own_pred`` and ``own_label``; where it left them on two grids, what
    the network and the preprocessing gave.

    Args:
        own: the model's postprocessing as it is deployed.
        preprocessing: the model's, whole.
        labels: name of a case -> its label on the file's grid: :class:`~monai_advdef.audit.label_files.LabelFiles`, or
            :class:`~monai_advdef.audit.stability.References`.
        classes: names of the foreground classes.
        activation: ``"softmax"`` or ``"sigmoid"``.

    Raises:
        ValueError: a transform of the preprocessing moves voxels and has no inverse. When called, a :class:`DataError` for a case
            whose files do not lie on one grid, or whose prediction cannot be brought back.
    """

    def __init__(
        self,
        own: AsDeployed,
        preprocessing: Any,
        labels: Callable[[str], MetaTensor],
        *,
        classes: Sequence[str],
        activation: str = "softmax",
    ) -> None:
        self.own, self.labels, self.classes, self.activation = own, labels, list(classes), activation
        self.way = WayBack(preprocessing, image_key=own.keys["image"])
        self.inverted = inverts(own.postprocessing, own.keys["pred"])

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """One case, decollated: ``image``, ``fed``, ``label``, ``case``, and ``pred``, the logits (K, \\*S) of the network."""
        label = self.labels(str(data[CASE]))
        pred, left = self.predicted(data)
        file, name = file_grid(data["fed"]), str(data["fed"].meta.get("filename_or_obj", "the image"))
        label = on_grid(label, grid_of(pred) if file is None else file, name)
        if tuple(pred.shape[1:]) != tuple(label.shape[1:]):
            told = ", ".join(type(t).__name__ for t in steps(self.own.postprocessing)) or "none"
            raise DataError(
                f"{name}: on the grid of the file the prediction has the size {tuple(pred.shape[1:])}, the label "
                f"{label.meta.get('filename_or_obj', '')} {tuple(label.shape[1:])}; the model's postprocessing ({told}) must leave "
                "it in the size of the file or of the network's input"
            )
        found, true = left["pred"], left.get("label")
        if not isinstance(true, Tensor) or tuple(true.shape[1:]) != tuple(found.shape[1:]):
            found, true = self._activated(data["pred"]), data["label"]
        kept = {
            OWN_PRED: settled(found, self.classes, self.activation, "the prediction"),
            OWN_LABEL: settled(true, self.classes, self.activation, "the label", hard=True),
        }
        return {**left, "pred": pred, "label": label, **kept}

    def predicted(self, data: Mapping[str, Any]) -> tuple[MetaTensor, dict[str, Any]]:
        """The deployed prediction of one case on the grid of its file, and all that the model's own postprocessing left.

        Raises:
            DataError: as when called.
        """
        fed = data["fed"]
        if not isinstance(fed, MetaTensor):
            raise DataError(
                f"case {data[CASE]!r}: what the preprocessing makes of the image has lost its metadata, so the prediction cannot "
                "be brought back to the file; keep it a MetaTensor (track_meta true)"
            )
        logits = torch.as_tensor(data["pred"]).as_subclass(Tensor).detach()
        done = self.own({**data, "pred": MetaTensor(logits.clone()).copy_meta_from(fed)})
        left, file = torch.as_tensor(done["pred"]), file_grid(fed)
        if self._is_back(left, fed, file):
            pred = settled(left, self.classes, self.activation, "the prediction")
            return _placed(pred, left if isinstance(left, MetaTensor) else fed, file), done
        scores = left.as_subclass(Tensor)
        untouched = scores.shape == logits.shape and bool(torch.equal(scores, logits))
        pred, source = self._brought_back(self._activated(scores) if untouched else scores, fed)
        return _placed(pred, source, file), done

    def _is_back(self, left: Tensor, fed: MetaTensor, file: Grid | None) -> bool:
        """Whether the model's own postprocessing has brought the prediction back to the file's grid."""
        if self.inverted or not self.way.moving:
            return True
        if isinstance(left, MetaTensor) and file is not None and not left.applied_operations:
            return same_grid(grid_of(left), file)
        shape = tuple(left.shape[1:])
        return file is not None and shape != tuple(fed.shape[1:]) and shape == tuple(file.shape[: len(shape)])

    def _activated(self, scores: Tensor) -> Tensor:
        """Of a sigmoid head probabilities: there 0, which is what lies outside the network's view, is background."""
        plain = torch.as_tensor(scores).as_subclass(Tensor)
        return plain.sigmoid() if self.activation == "sigmoid" else plain

    def _brought_back(self, scores: Tensor, fed: MetaTensor) -> tuple[Tensor, MetaTensor]:
        """Class map or masks on the file's grid, and something that tells where that lies."""
        name, hard = "the prediction", decided(scores)
        if hard or self.activation == "sigmoid":
            ready = settled(scores, self.classes, self.activation, name) if hard else scores
            made = self.way(ready, fed, nearest=hard)
            return settled(made, self.classes, self.activation, name), made
        if len(scores) != len(self.classes) + 1:
            settled(scores, self.classes, self.activation, name)  # refuses it in words
        best, winner = None, torch.zeros(0)
        for first in range(0, len(scores), AT_ONCE):
            made = self.way(scores[first : first + AT_ONCE], fed, nearest=False)
            value, place = made.as_subclass(Tensor).cpu().max(0, keepdim=True)
            better = torch.ones_like(place, dtype=torch.bool) if best is None else value > best
            winner = place if best is None else torch.where(better, place + first, winner)
            best = value if best is None else torch.maximum(value, best)
        return settled(winner, self.classes, self.activation, name), made


def _placed(made: Tensor, source: MetaTensor, file: Grid | None) -> MetaTensor:
    """With the file's affine, where it is known."""
    affine = source.affine if file is None else torch.as_tensor(file.affine)
    found = MetaTensor(made.as_subclass(Tensor), affine=affine)
    found.meta |= {k: source.meta[k] for k in ("filename_or_obj", "xyzt_units", "spatial_shape") if k in source.meta}
    return found
