"""A detector by disagreement: an attacked image is one of which the network says something else behind a defence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from monai_advdef.defenses import Defense
from monai_advdef.detection.handler import SignalHandler
from monai_advdef.handlers.cell import described
from monai_advdef.handlers.identity import identity
from monai_advdef.metrics import mean_dice
from monai_advdef.switches import as_written
from monai_advdef.types import Logits, PerCase
from monai_advdef.victim import Victim


def disagreement(victim: Victim, first: Logits, second: Logits) -> PerCase:
    """1 minus the Dice of two predictions, mean over foreground classes; 0 where both are empty."""
    return 1 - mean_dice(victim.predict(first), victim.predict(second), victim.classes(first))


def agreement(first: Logits, second: Logits, activation: str = "softmax") -> PerCase:
    """How alike two soft predictions are, 1 only where they are equal: 2 Σpq / (Σp² + Σq²), mean over foreground classes."""
    p, q = (z.softmax(1)[:, 1:] if activation == "softmax" else z.sigmoid() for z in (first, second))
    p, q = p.flatten(2), q.flatten(2)
    return ((2 * (p * q).sum(2) + 1e-5) / ((p * p).sum(2) + (q * q).sum(2) + 1e-5)).mean(1)


class DisagreementHandler(SignalHandler):
    """Records ``disagreement`` of every case between the prediction for the image and that for the image behind ``defense``, with an
    alarm (see :class:`SignalHandler`). What is scored is the prediction for the image; the defence only watches.

    Args:
        defense: what the second look goes through: frequency refinement, JPEG, any image defence.
        options: of :class:`SignalHandler`.

    Cost: two passes through the network per case, and per case of ``calibration`` when the run starts.

    Source: Xu et al., "Feature Squeezing", NDSS 2018, for the principle; the Dice between two segmentations is ours.
    """

    names = ("disagreement",)

    @as_written
    def __init__(self, defense: Callable[..., Tensor], *, calibration: Iterable[Mapping[str, Any]], **options: Any) -> None:
        super().__init__(calibration=calibration, **options)
        self.defense = defense

    @property
    def threshold(self) -> float | None:
        """The disagreement above which there is an alarm; ``None`` before the run has started."""
        return self.thresholds.get("disagreement")

    def signals(self, victim: Victim, image: Tensor) -> dict[str, PerCase]:
        """Disagreement of the two looks.

        Raises:
            ValueError: images outside the range that the defence is made for.
        """
        if isinstance(self.defense, Defense):
            self.defense.require_range(image)
        looked = [victim(x) for x in (image, self.defense(image))]
        return {"disagreement": disagreement(victim, *looked)}

    def settings(self) -> dict[str, Any]:
        """With the defence, for people and by its identity."""
        return {**super().settings(), "defense": described(self.defense), "identity": identity(self.defense)}
