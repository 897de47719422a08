"""A trained network that stands beside the one in training: a teacher, or what adversarial copies are crafted on."""

from __future__ import annotations

import copy
import os

from torch import nn

from monai_advdef.networks import inherit
from monai_advdef.switches import as_written


@as_written
def frozen_copy(network: nn.Module, weights: str | os.PathLike[str]) -> nn.Module:
    """A copy of ``network`` with the weights of a file, in evaluation mode and without gradients to its weights.

    Args:
        network: of the same architecture; it is left as it is.
        weights: a file written by a bundle's training (``models/model.pt``).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the weights of another network.
    """
    twin = copy.deepcopy(network)
    missing = inherit(twin, weights, freeze=False)
    if missing:
        raise ValueError(f"weights {str(weights)!r} are not those of this network: they lack {missing[0]!r}; give its own weights")
    return twin.eval().requires_grad_(False)
