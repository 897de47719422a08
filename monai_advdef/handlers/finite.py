"""An evaluation of a network whose weights or logits are no numbers is stopped: every score of it would be one of nothing."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor

from monai_advdef.handlers.cell import Engine, case_names
from monai_advdef.logits import NonFinite, bad_weight, name_of, not_finite, unwrap


class FiniteCheck:
    """Stops an evaluator whose network holds weights, or gives predictions, that are NaN or infinite.

    Weights are looked at when the epoch starts (so after a ``CheckpointLoader``), predictions as they come from the inferer, before
    any postprocessing. Of an ensemble every network and every prediction. The ``RecordHandler`` brings one along.

    Args:
        image_key: of the batch; tells what the cases are called.

    Raises:
        NonFinite: in use, naming the network and its weight or the cases.
    """

    def __init__(self, *, image_key: str = "image") -> None:
        self.image_key = image_key

    def attach(self, engine: Engine) -> None:
        """Look at the weights when an epoch starts and at every prediction."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.weights)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.predictions)

    def weights(self, engine: Engine) -> None:
        """Raise :class:`NonFinite` for weights that are no numbers."""
        for network in _networks(engine):
            weight = bad_weight(network)
            if weight is not None:
                words = f"{name_of(network)} holds NaN or infinity in its weight {weight!r}"
                raise NonFinite(f"{words}: the training diverged; load another checkpoint", [])

    def predictions(self, engine: Engine) -> None:
        """Raise :class:`NonFinite` for logits that are no numbers, naming the cases."""
        output = engine.state.output
        for key in [k for k in output if str(k).startswith("pred")]:
            for tensor in _tensors(output[key]):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad = (~torch.isfinite(tensor)).flatten(1).any(1).nonzero().flatten().tolist()
                    where = f"for case {', '.join(_names(engine, bad, self.image_key))}"
                    raise NonFinite(not_finite(_networks(engine)[0], where), bad)


def _names(engine: Engine, cases: list[int], image_key: str) -> list[str]:
    """What the cases at these places of the batch are called, or their places."""
    try:
        names = case_names(engine.state.batch, image_key)
    except (ValueError, KeyError, TypeError):
        return [f"{i} of the batch (counted from 0)" for i in cases]
    return [repr(names[i]) for i in cases]


def _networks(engine: Engine) -> list[Any]:
    several = getattr(engine, "networks", None)
    return [unwrap(network) for network in (several if several is not None else [engine.network])]


def _tensors(prediction: Any) -> list[Tensor]:
    """Of one head, or of several."""
    parts = prediction if isinstance(prediction, (list, tuple)) else [prediction]
    return [part for part in parts if isinstance(part, Tensor)]
