"""Scoring as deployed: behind the model's own postprocessing, prediction and label on the grid of the label's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from monai_advdef.audit.scoring.forms import decided, settled
from monai_advdef.audit.scoring.label_files import CASE, on_grid
from monai_advdef.audit.scoring.way_back import WayBack, file_grid, grid_of, inverts, resampled, same_grid, steps
from monai_advdef.dicom.series_subject import Grid
from monai_advdef.errors import DataError
from monai_advdef.metrics import class_map

if TYPE_CHECKING:
    from monai_advdef.audit.dataset import AsDeployed

OWN_PRED, OWN_LABEL, LEFT = "own_pred", "own_label", "left"
NETWORK_PRED, NETWORK_LABEL = "network_pred", "network_label"  # the RecordHandler knows them
KEPT = ("filename_or_obj", "xyzt_units", "spatial_shape")  # of the metadata of an image
AT_ONCE = 8  # channels of scores that are brought to the file's size together: of 105 classes all would not fit into memory


class Labels(Protocol):
    """Where the label of a case comes from."""

    def __call__(self, data: Mapping[str, Any]) -> MetaTensor:
        """On the grid of the file, class map (1, \\*S) or masks (K, \\*S)."""
        ...

    def own(self, data: Mapping[str, Any], left: Mapping[str, Any]) -> Any:
        """For what the model's own postprocessing ``left`` of the prediction."""
        ...


class Predicted(NamedTuple):
    """The prediction of one case: ``pred`` on the grid of its file, and what the model's own postprocessing left of it.

    ``own`` is that in the form of ``pred``, class map (1, \\*S) or masks (K, \\*S); ``left`` is all that it left, untouched.
    """

    pred: MetaTensor
    own: Tensor
    left: dict[str, Any]


class OnFileGrid(Transform):
    """Postprocessing of one case: the model's own, and behind it ``pred`` and ``label`` on the grid of the label's file.

    What the model's own postprocessing has inverted (MONAI's ``Invertd``) stays as it is. What it has not is brought back by MONAI's
    inverse of the spatial transforms: class maps and masks by the nearest voxel, scores as the preprocessing interpolated, then the
    highest one (softmax), or all from .5 on (sigmoid). The label is the file's own content, which no spatial transform has touched.

    Beside them are kept, on the network's grid and as the network and the preprocessing gave them, ``network_pred`` and
    ``network_label`` (for pictures also ``shown_pred`` and ``shown_label``, where the attacked image lies on another grid); what the
    model's own postprocessing left of the two, untouched under its own keys in ``left``, and in the form of the others as
    ``own_pred`` and ``own_label`` (where it left them on two grids, those of the network's grid).

    Args:
        own: the model's postprocessing as it is deployed.
        preprocessing: the model's, whole.
        labels: where the label on the file's grid comes from: :class:`~monai_advdef.audit.scoring.label_files.LabelFiles`, or
            :class:`~monai_advdef.audit.scoring.stability.References`.
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
        labels: Labels,
        *,
        classes: Sequence[str],
        activation: str = "softmax",
    ) -> None:
        self.own, self.labels, self.classes, self.activation = own, labels, list(classes), activation
        self.way = WayBack(preprocessing, image_key=own.keys["image"])
        self.inverted, self.label_inverted = (inverts(own.postprocessing, own.keys[key]) for key in ("pred", "label"))

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """One case, decollated: ``image``, ``fed``, ``label``, ``case``, and ``pred``, the logits (K, \\*S) of the network."""
        made = self.predicted(data)
        left, label = made.left, self._labelled(data, made.pred)
        near = {NETWORK_PRED: self.of_logits(data["pred"]), NETWORK_LABEL: self.settled(data["label"], "the label")}
        true = self.labels.own(data, left)
        if isinstance(true, Tensor) and tuple(true.shape[1:]) == tuple(made.own.shape[1:]):
            own = {OWN_PRED: made.own, OWN_LABEL: self.settled(true, "the label")}
        else:
            own = {OWN_PRED: near[NETWORK_PRED], OWN_LABEL: near[NETWORK_LABEL]}
        keys = self.own.keys
        untouched = {keys["pred"]: left["pred"], keys["label"]: left["label"], keys["image"]: data["fed"]}
        shown = self._shown(data, near)
        return {**left, "pred": made.pred, "label": label, **near, **own, **shown, LEFT: untouched}

    def _shown(self, data: Mapping[str, Any], near: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For pictures, where the voxels of the attacked image are others than the network's."""
        image, fed = data["image"], data["fed"]
        if not isinstance(image, MetaTensor) or same_grid(grid_of(image), grid_of(fed)):
            return {}
        onto = grid_of(image)
        return {k.replace("network", "shown"): self.settled(resampled(x, fed, onto, nearest=True)) for k, x in near.items()}

    def _labelled(self, data: Mapping[str, Any], pred: MetaTensor) -> MetaTensor:
        """The label on the file's grid, which is the prediction's."""
        file, name = file_grid(data["fed"]), str(data["fed"].meta.get("filename_or_obj", f"the image of case {data[CASE]!r}"))
        label = on_grid(self.labels(data), grid_of(pred) if file is None else file, name)
        label.meta = {**{k: pred.meta[k] for k in KEPT if k in pred.meta}, **label.meta}
        if tuple(pred.shape[1:]) != tuple(label.shape[1:]):
            told = ", ".join(type(t).__name__ for t in steps(self.own.postprocessing)) or "none"
            raise DataError(
                f"{name}: on the grid of the file the prediction has the size {tuple(pred.shape[1:])}, the label "
                f"{label.meta.get('filename_or_obj', '')} {tuple(label.shape[1:])}; the model's postprocessing ({told}) must leave "
                "it in the size of the file or of the network's input"
            )
        return label

    def settled(self, x: Tensor, name: str = "the prediction") -> Tensor:
        """Masks or scores in one form; see :func:`~monai_advdef.audit.scoring.forms.settled`."""
        return settled(x, self.classes, self.activation, name, hard=name == "the label")

    def of_logits(self, logits: Tensor) -> Tensor:
        """The class map (1, \\*S) or the masks (K, \\*S) of logits (K, \\*S)."""
        plain = self._activated(logits)
        return self.settled(class_map(plain[None])[0] if self.activation == "softmax" else (plain >= 0.5))

    def predicted(self, data: Mapping[str, Any]) -> Predicted:
        """The deployed prediction of one case.

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
        left = self.own({**data, "pred": MetaTensor(logits.clone()).copy_meta_from(fed)})
        found, file = torch.as_tensor(left["pred"]), file_grid(fed)
        scores = found.as_subclass(Tensor)
        untouched = scores.shape == logits.shape and bool(torch.equal(scores.to(logits), logits))
        own = self.of_logits(logits) if untouched else self.settled(scores)
        if self._is_back(found, fed, file):
            return Predicted(_placed(own, found if isinstance(found, MetaTensor) else fed, file), own, left)
        pred, source = self._brought_back(self._activated(scores) if untouched else scores, fed, not untouched and decided(scores))
        return Predicted(_placed(pred, source, file), own, left)

    def _is_back(self, left: Tensor, fed: MetaTensor, file: Grid | None) -> bool:
        """Whether the model's own postprocessing has brought the prediction back to the file's grid."""
        if self.inverted and isinstance(left, MetaTensor) and file is not None and not same_grid(grid_of(left), file):
            if not bool((left.affine == torch.eye(len(left.affine))).all()):  # which a tensor has that lost its own
                raise DataError(
                    f"{fed.meta.get('filename_or_obj', 'the image')}: the postprocessing inverts the prediction, which then lies "
                    f"elsewhere than the file's voxels (shape {tuple(left.shape[1:])}, the file's {file.shape}); let its Invertd "
                    "take the preprocessing that the evaluation uses"
                )
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

    def _brought_back(self, scores: Tensor, fed: MetaTensor, hard: bool) -> tuple[Tensor, MetaTensor]:
        """Class map or masks on the file's grid, and something that tells where that lies."""
        if hard or self.activation == "sigmoid":
            ready = self.settled(scores) if hard else scores
            made = self.way(ready, fed, nearest=hard)
            return self.settled(made), made
        if len(scores) != len(self.classes) + 1:
            self.settled(scores)  # refuses it in words
        best, winner = None, torch.zeros(0)
        for first in range(0, len(scores), AT_ONCE):
            made = self.way(scores[first : first + AT_ONCE], fed, nearest=False)
            value, place = made.as_subclass(Tensor).cpu().max(0, keepdim=True)
            better = torch.ones_like(place, dtype=torch.bool) if best is None else value > best
            winner = place if best is None else torch.where(better, place + first, winner)
            best = value if best is None else torch.maximum(value, best)
        return self.settled(winner), made


def _placed(made: Tensor, source: MetaTensor, file: Grid | None) -> MetaTensor:
    """With the file's affine, where it is known."""
    affine = source.affine if file is None else torch.as_tensor(file.affine)
    found = MetaTensor(made.as_subclass(Tensor), affine=affine)
    found.meta |= {k: source.meta[k] for k in KEPT if k in source.meta}
    return found
