"""Readings of a disc crop: a number per case that rises with glaucoma, and the threshold above which it means glaucoma."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_advdef.diagnosis.locate import find_disc
from monai_advdef.errors import DataError

Threshold = float | str | os.PathLike[str] | None


class Reader:
    """A network that reads crops, with its weights and its threshold.

    A subclass says what it reads (``name``), which overlay trains it (``overlay``), and how (:meth:`read`).

    Args:
        network: takes crops ``(B, 3, S, S)`` in grey levels.
        weights: one file of weights per part of the network (see ``parts``); none where the network has been trained already.
        threshold: a number, or the JSON file that :func:`fit_threshold` wrote; ``None`` until there is one.

    Raises:
        DataError: weights or threshold that do not exist or do not fit, with the command that makes them.
    """

    name: str
    overlay: str

    def __init__(self, network: nn.Module, *, weights: Sequence[str | os.PathLike[str]] = (), threshold: Threshold = None) -> None:
        self.network = network
        for part, path in zip(self.parts(), weights, strict=True) if weights else ():
            self._load(part, Path(path))
        self.threshold = threshold if threshold is None or isinstance(threshold, (int, float)) else self._stored(Path(threshold))

    def parts(self) -> list[nn.Module]:
        """What the weight files are for, in order."""
        return [self.network]

    def read(self, logits: Tensor, disc_extents: Sequence[float]) -> Tensor:
        """The reading ``(B,)`` from the network's answer; ``disc_extents`` as in :meth:`__call__`."""
        raise TypeError(f"{type(self).__name__} defines no read(logits, disc_extents); a reader must")

    def __call__(self, crops: Tensor, disc_extents: Sequence[float]) -> Tensor:
        """The reading ``(B,)`` of crops ``(B, 3, S, S)``; ``disc_extents`` are the vertical extents of the segmentation's discs in
        pixels of the crop, 0 where there is none."""
        with eval_mode(self.network), torch.no_grad():
            return self.read(self.network(crops), disc_extents)

    def decide(self, reading: float) -> float:
        """1.0 where the reading means glaucoma, else 0.0.

        Raises:
            DataError: there is no threshold yet.
        """
        if self.threshold is None:
            raise DataError(f"{self.name} has no threshold; {self._remedy}")
        return float(reading >= self.threshold)

    @property
    def _remedy(self) -> str:
        return (
            f"train it first, with the same --ckpt_dir: python -m monai.bundle run --config_file "
            f"\"['configs/train.yaml','configs/{self.overlay}']\""
        )

    def _load(self, part: nn.Module, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"weights {path} of {self.name} do not exist; {self._remedy}")
        stored = torch.load(path, map_location="cpu", weights_only=True)
        try:
            part.load_state_dict(stored.get("model", stored))
        except RuntimeError as error:
            raise DataError(f"weights {path} do not fit the network of {self.name} ({error}); {self._remedy}") from error

    def _stored(self, path: Path) -> float:
        if not path.is_file():
            raise DataError(f"threshold file {path} of {self.name} does not exist; {self._remedy}")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("threshold"), (int, float)):
            raise DataError(f"{path} holds no number under 'threshold'; {self._remedy}")
        return float(content["threshold"])


class CupDiscRatio(Reader):
    """Vertical cup-to-disc ratio: the extent of the largest piece of cup in the crop, over that of the disc.

    The network answers background, rim and cup: logits ``(B, 3, S, S)``. The disc is the segmentation's, so that an attack on the
    mask acts on the diagnosis directly; where the segmentation found none, it is the crop network's rim and cup, and without
    those the ratio is 0. A mask smaller than the cup gives a ratio above 1.

    Args:
        network, weights, threshold: see :class:`Reader`.
        disc_from: ``"mask"`` (the segmentation's disc) or ``"crop"`` (always the crop network's).
        vertical_axis: of the crops' two; the second, because MONAI's PILReader gives images as (width, height).

    Raises:
        ValueError: unknown ``disc_from``; a ``vertical_axis`` other than 0 and 1.
    """

    name, overlay = "cup_disc_ratio", "train_cup.yaml"

    def __init__(self, network: nn.Module, *, disc_from: str = "mask", vertical_axis: int = 1, **stored: Any) -> None:
        if disc_from not in ("mask", "crop"):
            raise ValueError(f"disc_from must be 'mask' or 'crop', got {disc_from!r}")
        if vertical_axis not in (0, 1):
            raise ValueError(f"vertical_axis must be 0 or 1, got {vertical_axis}; 1 after PILReader, which gives (width, height)")
        super().__init__(network, **stored)
        self.disc_from, self.vertical_axis = disc_from, vertical_axis

    def read(self, logits: Tensor, disc_extents: Sequence[float]) -> Tensor:
        """Vertical cup/disc ratio (B,) of logits (B, 3, S, S); 0 where there is no disc. ``disc_extents`` in pixels of the crop.

        Raises:
            ValueError: logits of another shape.
        """
        if logits.ndim != 4 or logits.shape[1] != 3:
            raise ValueError(f"{self.name} needs logits (B, 3, S, S) of background, rim and cup, got {tuple(logits.shape)}")
        ratios = []
        for classes, extent in zip(logits.argmax(1), disc_extents):
            if self.disc_from == "crop" or not extent:
                extent = find_disc(classes > 0).extent[self.vertical_axis]
            cup = find_disc(classes == 2).extent[self.vertical_axis]
            ratios.append(cup / extent if extent else 0.0)
        return torch.tensor(ratios)


class GlaucomaProbability(Reader):
    """Mean over the members of an :class:`Ensemble` of their probability of glaucoma."""

    name, overlay = "probability", "train_diagnosis.yaml"

    def parts(self) -> list[nn.Module]:
        """The members of the ensemble."""
        return list(self.network.members)  # type: ignore[arg-type]

    def read(self, logits: Tensor, disc_extents: Sequence[float]) -> Tensor:
        """Probability of glaucoma (B,), the mean over the members of logits (B, 2, members)."""
        return logits.softmax(1)[:, 1].mean(-1).cpu()
