"""The networks of an nnU-Net's folds, each with its own weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_ONLY: ContextVar[int | None] = ContextVar("fold", default=None)


@contextmanager
def only(fold: int) -> Iterator[None]:
    """Inside, every :class:`Folds` answers with one of its networks: nnU-Net stitches a fold's windows before it adds the folds."""
    token = _ONLY.set(fold)
    try:
        yield
    finally:
        _ONLY.reset(token)


class Folds(nn.Module):
    """Networks of one architecture as an ensemble: the mean of their logits, or those of the one that :func:`only` names."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Windows (B, C, \\*S) -> logits (B, K, \\*S)."""
        fold = _ONLY.get()
        if fold is not None:
            return self.folds[fold](x)
        return torch.stack([network(x) for network in self.folds]).mean(0)
