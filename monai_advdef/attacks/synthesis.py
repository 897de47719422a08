"""The trained generator of deformations and intensity changes as an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from monai_advdef.attacks.core import Attack
from monai_advdef.synthesis import FieldStore, load_generator
from monai_advdef.threat import Ball, ThreatModel
from monai_advdef.types import Images


@dataclass(frozen=True, kw_only=True)
class SynthesisAttack(Attack):
    """One sample of a trained :class:`monai_advdef.synthesis.PerturbationGenerator` for each image, or the worst of several.

    It takes no step and sees no label: the victim only decides which sample is kept. The fields have bounds of their own, so the
    threat should be ``"unbounded"``; the images are clamped to its range.

    Args:
        weights: the ``generator.pt`` that ``workflows/training/synthesis`` wrote.
        restarts: how many samples are drawn; of several the one that lowers Dice most is kept.
        sampled: false takes the means of the latents, so that one sample is all there is.
        sha256: of the file, filled in when left out; given, any other file is refused.
        fields_dir: where the fields are kept for :class:`monai_advdef.handlers.synthesis.SynthesisHandler`; ``None`` keeps none.

    Raises:
        FileNotFoundError: no such ``weights``.
        ValueError: the file is not a generator's, or not the one of ``sha256``; several samples without ``sampled``.

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019.
    """

    weights: str
    sampled: bool = True
    sha256: str | None = None
    fields_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts > 1 and not self.sampled:
            raise ValueError(f"restarts must be 1 where sampled is false, got {self.restarts}: all samples would be the same")
        generator, digest = load_generator(self.weights)
        if self.sha256 not in (None, digest):
            raise ValueError(f"weights {self.weights!r} have SHA-256 {digest}, not {self.sha256}; give the file that was meant")
        object.__setattr__(self, "sha256", digest)
        object.__setattr__(self, "_generator", generator)

    @property
    def label(self) -> str:
        """``synthesis``, the fields that are made, and of how many samples it is the worst."""
        samples = f", worst of {self.restarts}" if self.restarts > 1 else ""
        return f"synthesis ({self._generator.config['parts']}{samples})"  # type: ignore[attr-defined]

    def to_config(self) -> dict[str, Any]:
        """The attack as a plain ``_target_`` configuration; where fields are kept is no part of it."""
        return {"_target_": "monai_advdef.attacks.SynthesisAttack", **asdict(self), "fields_dir": None}

    def count(self, threat: ThreatModel) -> int:
        """None: the generator is asked once."""
        return 0

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """The image under the generator's fields.

        Raises:
            ValueError: the generator was trained for another number of channels or axes.
        """
        network = self._generator.to(ball.image.device)  # type: ignore[attr-defined]
        channels, dims = network.config["in_channels"], network.config["spatial_dims"]
        if ball.image.shape[1] != channels or ball.image.ndim != dims + 2:
            raise ValueError(
                f"the generator was trained for {dims}D images of {channels} channels, got shape {tuple(ball.image.shape)}; "
                "train one on this data"
            )
        with torch.no_grad():
            fields, _ = network(ball.image, generators if self.sampled else None)
            made = ball.project(fields.apply(ball.image))
        if self.fields_dir is not None:
            FieldStore(self.fields_dir).save(fields, made)
        return made
