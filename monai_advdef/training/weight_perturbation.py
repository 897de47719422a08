"""Adversarial weight perturbation: every step is taken from where the loss is worst near the weights, not from the weights."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import Tensor, nn

from monai_advdef.logits import unwrap
from monai_advdef.switches import as_written


class WeightPerturbation:
    """Moves every layer of the trainer's network by γ ‖w‖ g / ‖g‖ before the trainer's own pass, and back before its step.

    g is the gradient of the trainer's loss on the batch as it stands (attacked, or with its neighbours), so it goes with adversarial
    training, TRADES or any loss. The gradient of the weights is then that at w + v, and the optimiser applies it to w, which are bit
    for bit the weights as they were, also after an error. As in the published code, only tensors of two axes and more move, neither
    biases nor normalisation. The additional pass leaves running statistics and random numbers as they were.

    Cost: one forward and one backward pass more per iteration, and a copy of the weights.

    Args:
        gamma: γ, the size of the perturbation relative to each layer.
        warmup: how many epochs go by without it.

    Raises:
        ValueError: ``gamma`` below 0 or not finite; ``warmup`` below 0.

    Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020, equations 9 and 10, γ = 5e-3.
    """

    @as_written
    def __init__(self, *, gamma: float = 5e-3, warmup: int = 0) -> None:
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be ≥ 0 and finite, got {gamma}; 0.005 is published")
        if not isinstance(warmup, int) or warmup < 0:
            raise ValueError(f"warmup must be a whole number of epochs ≥ 0, got {warmup!r}")
        self.gamma, self.warmup = float(gamma), warmup
        self._kept: list[tuple[Tensor, Tensor]] = []  # parameters and what they were, while they are moved

    def attach(self, engine: Engine) -> None:
        """Around the trainer's iteration, so that all handlers of its start, attacks among them, have come before."""
        own = engine._process_function

        def iteration(trainer: Any, batch: Any) -> Any:
            if trainer.state.epoch > self.warmup:
                self.perturb(trainer, batch)
            try:
                return own(trainer, batch)
            finally:
                self.restore()

        engine._process_function = iteration
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.restore)

    def perturb(self, engine: Any, batch: Any) -> None:
        """Move the weights of ``engine.network`` to w + v."""
        network = unwrap(engine.network)
        moved = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
        gradients = _gradients(engine, network, batch, moved)
        with torch.no_grad():
            for p, gradient in zip(moved, gradients):
                size = None if gradient is None else torch.linalg.vector_norm(gradient.double())
                if gradient is None or size is None or not bool(torch.isfinite(size)) or float(size) == 0:
                    continue  # nowhere to go; of a loss that is not finite the trainer's own pass tells
                self._kept.append((p, p.detach().clone()))
                p.add_(gradient * (self.gamma * torch.linalg.vector_norm(p.double()) / size).to(p.dtype))

    def restore(self, _: Any = None) -> None:
        """Bring back the weights as they were; nothing where they have not been moved."""
        with torch.no_grad():
            while self._kept:
                p, before = self._kept.pop()
                p.copy_(before)


def _gradients(engine: Any, network: nn.Module, batch: Any, of: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """Of the trainer's loss on a batch, in training mode; buffers and random numbers afterwards as before."""
    device = torch.device(engine.state.device)
    inputs, targets, *more = engine.prepare_batch(batch, device, engine.non_blocking, **engine.to_kwargs)
    args, kwargs = more or ((), {})
    buffers = [(b, b.detach().clone()) for b in network.buffers()]
    amp = engine.amp and engine.scaler is not None
    network.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            with torch.autocast("cuda", **engine.amp_kwargs) if amp else nullcontext():
                loss = engine.loss_function(engine.inferer(inputs, network, *args, **kwargs), targets).mean()
            return torch.autograd.grad(loss, of, allow_unused=True)
    finally:
        with torch.no_grad():
            for b, before in buffers:
                b.copy_(before)
