"""Free adversarial training: one backward pass gives the gradient of the weights and that of the image."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.engines import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor

from monai_advdef.handlers.cell import Engine
from monai_advdef.threat import Ball, ThreatModel, as_threat


class ReplayedDataLoader(DataLoader):
    """Every batch ``replays`` times in a row; an epoch has that many times as many iterations.

    Raises:
        ValueError: ``replays`` below 1.
    """

    def __init__(self, dataset: Any, *, replays: int = 4, **options: Any) -> None:
        if not isinstance(replays, int) or replays < 1:
            raise ValueError(f"replays must be a whole number ≥ 1, got {replays!r}; 4 to 8 are usual")
        super().__init__(dataset, **options)
        self.replays = replays

    def __len__(self) -> int:
        return super().__len__() * self.replays

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            for _ in range(self.replays):
                yield copy.copy(batch)


class FreeAdversarialTraining:
    """Add a perturbation to every batch, and move it up the gradient that the trainer's own backward pass has left in the image.

    The perturbation δ is 0 at first and goes on from replay to replay and from batch to batch; each step is one of eps in the
    direction that the norm gives, followed by the projection onto the threat model of the current images (the paper clips δ to eps
    alone, the images may leave their range there).

    Args:
        threat: norm, budget and range.

    Raises:
        ValueError: an unbounded threat; an image that no gradient reaches.

    Source: Shafahi et al., "Adversarial Training for Free!", 2019, algorithm 1. List it in the trainer's handlers, and let
    :class:`ReplayedDataLoader` repeat the batches.
    """

    def __init__(self, threat: ThreatModel, *, image_key: str = "image") -> None:
        threat = as_threat(threat)
        if threat.norm == "unbounded":
            raise ValueError("norm must be 'linf' or 'l2' in free adversarial training, got 'unbounded'; its step has length eps")
        self.threat, self.image_key = threat, image_key
        self.delta: Tensor | None = None
        self._clean: Any = None
        self._ball: Ball | None = None

    def attach(self, engine: Engine) -> None:
        """Perturb before an iteration, and move the perturbation after its backward pass."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.perturb)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.ascend)

    def perturb(self, engine: Engine) -> None:
        """Replace the image of the batch by image + δ, a leaf that takes a gradient."""
        image = engine.state.batch[self.image_key].to(engine.state.device)
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        self._clean, self._ball = image, self.threat.around(clean)
        if self.delta is None or self.delta.shape != clean.shape:
            self.delta = torch.zeros_like(clean)
        engine.state.batch[self.image_key] = self._like(self._ball.project(clean + self.delta)).requires_grad_()

    def ascend(self, engine: Engine) -> None:
        """Move δ; the batch and the output keep the image without its gradient."""
        image, ball = engine.state.batch[self.image_key], self._ball
        assert ball is not None
        if image.grad is None:
            raise ValueError("no gradient reached the image; the network or the trainer detaches it, and must pass it on as it is")
        x, gradient = (t.as_tensor() if isinstance(t, MetaTensor) else t for t in (image.detach(), image.grad))
        self.delta = ball.project(x + ball.eps * ball.direction(gradient)) - ball.image
        engine.state.batch[self.image_key] = engine.state.output[CommonKeys.IMAGE] = self._like(x)

    def _like(self, x: Tensor) -> Tensor:
        return MetaTensor(x).copy_meta_from(self._clean) if isinstance(self._clean, MetaTensor) else x
