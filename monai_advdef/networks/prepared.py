"""An inferer with a deployed preprocessing in front: what a stranger's network is fed is made from the whole image, then cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.inferers import Inferer
from torch import Tensor


class PreparedInferer(Inferer):
    """``inferer(prepare(inputs), network, ...)``: images in image units -> logits.

    A scaling by the image's own statistics has to see the whole image, so it stands before the windows of an inferer and not inside
    the network. A :class:`monai_advdef.Victim` takes it apart: the gradient goes through both.

    Args:
        inferer: any MONAI inferer.
        prepare: images (B, C, \\*S) in image units -> what the network is fed (B, C', \\*S'); differentiable.
        activation: what its logits are for, ``"softmax"`` or ``"sigmoid"``, where it is known: an attack then takes that, for its
            own settings cannot know a network that was made elsewhere. ``None``: as the attack says.
    """

    def __init__(self, inferer: Inferer, prepare: Callable[[Tensor], Tensor], activation: str | None = None) -> None:
        super().__init__()
        self.inferer, self.prepare, self.activation = inferer, prepare, activation

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.inferer(self.prepare(inputs), network, *args, **kwargs)
