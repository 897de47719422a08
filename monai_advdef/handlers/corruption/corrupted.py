"""A corruption as the noun that handlers and records know: what it is called, and how often the network is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monai_advdef.attacks import Attack
from monai_advdef.corruptions import SEVERITIES, Corruption, named_corruption
from monai_advdef.handlers.cell import case_seeds
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images


@dataclass(frozen=True, kw_only=True)
class Corrupted(Attack):
    """One draw of a corruption, or the worst of several by what they leave of Dice.

    The first draw is that of the transform with the same seed. Of the others every second one has the full severity and other random
    numbers, the rest a severity drawn between 0 and the full one, too: nothing leaves the range of the parameters.

    Args:
        corruption: a name in :data:`monai_advdef.corruptions.SEVERITIES`.
        severity: in [0, 5]; of several draws the highest.
        queries: how many draws are tried; 1 asks the network nothing.
        spacing: of the spatial axes in mm, where images carry none.

    Raises:
        ValueError: an unknown corruption, a severity outside [0, 5], ``queries`` below 1.
    """

    corruption: str = "RigidMotion"
    severity: float = 3.0
    queries: int = 1
    spacing: Sequence[float] | float | None = None
    keep: str = "last"

    asks_only = True

    def __post_init__(self) -> None:
        super().__post_init__()
        named_corruption(self.corruption, severity=self.severity, spacing=self.spacing)
        object.__setattr__(self, "severity", float(self.severity))
        if not isinstance(self.queries, int) or self.queries < 1:
            raise ValueError(f"queries must be a whole number ≥ 1, got {self.queries!r}; 1 is one draw, and no search")

    @property
    def label(self) -> str:
        """``RigidMotion 3 (4 mm, 4 degrees)``; of a search ``worst of 16`` after it."""
        told = f"{self.corruption} {self.severity:g} ({SEVERITIES[self.corruption].told(self.severity)})"
        return told + (f", worst of {self.queries}" if self.queries > 1 else "")

    def to_config(self) -> dict[str, Any]:
        """The corruption as a plain ``_target_`` configuration, with the physical values."""
        told = SEVERITIES[self.corruption].told(self.severity)
        return {"_target_": "monai_advdef.handlers.corruption.Corrupted", **asdict(self), "parameters": told}

    def count(self, threat: ThreatModel) -> int:
        """The draws after the first: 0 without a search."""
        return self.queries - 1

    def init(self, ball: Ball, generators: Any) -> Images:
        """Refused: only :class:`CorruptionHandler` knows the spacing of the images, and moves their labels.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.label} is no attack that run() or the checks can carry out: labels follow it, and it needs the spacing; "
            "evaluate with an overlay of workflows/corruptions, without checks"
        )

    def draw(self, number: int, seed: int, threat: ThreatModel) -> Corruption:
        """The transform of draw ``number`` (0 is the first) for images of the unit and range of ``threat``.

        Raises:
            ValueError: a unit of another modality.
        """
        severity, own = self.severity, seed
        if number:
            (own,) = case_seeds(seed, [f"query {number}"])
            severity = severity if number % 2 else severity * float(np.random.default_rng(own).random())
        ranged = None if isinstance(threat.value_range, str) else threat.value_range
        return named_corruption(
            self.corruption, severity=severity, seed=own, unit=threat.unit, value_range=ranged, spacing=self.spacing
        )
