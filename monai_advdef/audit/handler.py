"""Before a case is attacked: see that its image becomes, through the tail, what the deployed chain feeds; after it: what moved."""

from __future__ import annotations

import logging
from typing import Any

from ignite.engine import Events
from monai.engines import IterationEvents

from monai_advdef.handlers.batches import batch_images
from monai_advdef.handlers.cell import Engine, case_names

logger = logging.getLogger(__name__)


class TailHandler:
    """Holds the tail of a preprocessing against the deployed chain on every case. List it before the attack.

    Args:
        division: head and tail, as :func:`monai_advdef.audit.divided` makes them.

    Raises:
        NotDifferentiable: when a case is read, the tail's values are not those of the deployed chain to 1e-5 of their range.
    """

    def __init__(self, division: Any) -> None:
        self.tail = division.tail
        self.moved: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Look at every batch before the attack, and at the attacked images after it."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.attacked)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.tell)

    def started(self, engine: Engine) -> None:
        """Nothing has moved yet."""
        self.moved = []

    def __call__(self, engine: Engine) -> None:
        require_equal = getattr(self.tail, "require_equal", None)
        if require_equal is None:  # the attack is at the network's input
            return
        batch = engine.state.batch
        image, fed = (batch_images(batch, key, key)[0].to(engine.state.device) for key in ("image", "fed"))
        require_equal(image, fed, case_names(batch, "image"))

    def attacked(self, engine: Engine) -> None:
        """Note where the deployed chain would crop an attacked image elsewhere."""
        if getattr(self.tail, "moved", None) is None or getattr(engine.state, "attack", None) is None:
            return
        batch = engine.state.batch
        if self.tail.moved(batch["image"].to(engine.state.device)):
            self.moved += case_names(batch, "image")

    def tell(self, engine: Engine) -> None:
        """Say in how many cases."""
        engine.state.moved = list(self.moved)
        if self.moved:
            logger.warning(
                "%d attacked images would be cropped elsewhere by the deployed chain than the clean ones; they are scored %s",
                len(self.moved),
                "so, too" if getattr(self.tail, "follows", False) else "within the box of the clean image",
            )
