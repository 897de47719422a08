"""What is kept of a training of the generator: the state to resume from, and generators to attack with."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from monai_advdef.switches import as_written
from monai_advdef.synthesis.generator import save_generator, write

logger = logging.getLogger(__name__)


class SynthesisCheckpoint:
    """Resume a :class:`SynthesisTrainer` where its last whole epoch ended, and write its averaged generator.

    Files of ``save_dir``, each replaced all at once, so that a killed process leaves the former one: ``training.pt`` (generator,
    critic, average, both optimisers, epoch; random numbers follow from the epoch), ``generator.pt`` (the running average) and, every
    ``interval`` epochs, ``generator_epoch_<n>.pt``.

    Args:
        save_dir: made when needed.
        interval: distance in epochs of the generators that stay.

    Raises:
        ValueError: ``interval`` below 1; a ``training.pt`` of another generator or critic.
    """

    @as_written
    def __init__(self, save_dir: str | os.PathLike[str], *, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f"interval must be ≥ 1 epochs, got {interval}; 10 is usual")
        self.folder, self.interval = Path(save_dir), int(interval)

    def attach(self, engine: Any) -> None:
        """Load when the training starts, save after every epoch."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    @property
    def path(self) -> Path:
        """The state of the training."""
        return self.folder / "training.pt"

    def load(self, engine: Any) -> None:
        """Go on after the last epoch that was saved; without one nothing happens.

        Raises:
            ValueError: the file belongs to another generator or critic.
        """
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location=engine.state.device, weights_only=True)
        try:
            for name, part in engine.parts.items():
                part.load_state_dict(state[name])
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"{self.path} belongs to another generator or critic ({str(error).splitlines()[0]}); give the settings it was "
                "trained with, or another folder"
            ) from error
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        logger.info("resumed from %s after epoch %d of %d", self.path, state["epoch"], engine.state.max_epochs)

    def save(self, engine: Any) -> None:
        """Write the whole state, the averaged generator, and every ``interval`` epochs a copy of it."""
        epoch = engine.state.epoch
        write({**{name: part.state_dict() for name, part in engine.parts.items()}, "epoch": epoch}, self.path)
        save_generator(engine.average.module, self.folder / "generator.pt")
        if epoch % self.interval == 0:
            save_generator(engine.average.module, self.folder / f"generator_epoch_{epoch}.pt")


def trained_epochs(folder: str | os.PathLike[str]) -> int:
    """After how many epochs the training kept in a folder stands; 0 where there is none."""
    path = Path(folder) / "training.pt"
    return int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) if path.exists() else 0


def kept_generators(folder: str | os.PathLike[str], count: int) -> dict[int, Path]:
    """By epoch, the last ``count`` generators that stayed in a folder.

    Raises:
        FileNotFoundError: fewer stayed.
    """
    kept = {int(path.stem.rsplit("_", 1)[1]): path for path in Path(folder).glob("generator_epoch_*.pt")}
    if len(kept) < count:
        raise FileNotFoundError(
            f"{len(kept)} generators stayed in {str(folder)!r}, {count} are wanted; train for more epochs, or lower checkpoints"
        )
    return {epoch: kept[epoch] for epoch in sorted(kept)[-count:]}
