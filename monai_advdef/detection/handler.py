"""What every signal of a case shares: a threshold set on clean cases, an alarm above it, and the readings for the records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor

from monai_advdef.handlers import VictimSettings
from monai_advdef.handlers.batches import batch_images, entry, network_of
from monai_advdef.handlers.cell import Engine, add_readings, announce
from monai_advdef.handlers.options import gather, names_of, refuse_unknown
from monai_advdef.switches import as_written
from monai_advdef.types import PerCase
from monai_advdef.victim import Victim
from monai_advdef.warning_stats import alarm_threshold, suspicion

logger = logging.getLogger(__name__)


class SignalHandler:
    """Reads signals of every case, attacked or not, and leaves them for the records (class ``image``): each signal by its name,
    ``<signal>_alarm`` (1 where it is more suspicious than its threshold), ``alarm_rate`` and ``dice_goal``.

    The threshold of each signal is set when the run starts, on the clean cases of ``calibration``: at most a share ``rate`` of
    them raises an alarm. An undefined signal (NaN) raises none. A subclass gives :meth:`signals`.

    Args:
        calibration: clean cases (dictionaries with an image) that are not evaluated, such as the validation section.
        rate: of false alarms, as a share of the calibration cases.
        goal: a case counts as failed where its Dice, the mean over classes, lies below it.
        victim: how the network is looked at, see :class:`monai_advdef.handlers.VictimSettings`, or flat options.
        image_key, label_key: keys of the batch.

    Raises:
        ValueError: ``rate`` or ``goal`` outside 0..1; an unknown option; when the run starts, no case to calibrate on.
    """

    names: tuple[str, ...] = ()

    @as_written
    def __init__(
        self,
        *,
        calibration: Iterable[Mapping[str, Any]],
        rate: float = 0.05,
        goal: float = 0.7,
        victim: VictimSettings | Mapping[str, Any] | None = None,
        image_key: str = "image",
        label_key: str = "label",
        **options: Any,
    ) -> None:
        for name, value in (("rate", rate), ("goal", goal)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie above 0 and below 1, got {value}; 0.05 false alarms and a Dice of 0.7 are usual")
        self.view = gather(VictimSettings, victim, options)
        refuse_unknown(type(self).__name__, options, [*names_of(VictimSettings), "calibration", "rate", "goal", "victim"])
        self.calibration, self.rate, self.goal = calibration, float(rate), float(goal)
        self.image_key, self.label_key = image_key, label_key
        self.thresholds: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Set the thresholds when the run starts, and read every batch as it stands before the network."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    def signals(self, victim: Victim, image: Tensor) -> dict[str, PerCase]:
        """Every signal of ``names``, (B,), of images (B, C, \\*S) in image units."""
        raise TypeError(f"{type(self).__name__} reads no signal; a subclass must")

    def readings(self, victim: Victim, image: Tensor, label: Tensor) -> dict[str, PerCase]:
        """What is recorded of a batch, label (B, 1|K, \\*S) included."""
        return self.signals(victim, image)

    def settings(self) -> dict[str, Any]:
        """What the readings depend on, as plain values."""
        return {"rate": self.rate, "goal": self.goal, "victim": self.view.plain(), "thresholds": self.thresholds}

    def started(self, engine: Engine) -> None:
        """Set the thresholds, and say how this evaluation is measured."""
        victim, found = self.victim(engine), {name: [] for name in self.names}  # type: Victim, dict[str, list[float]]
        with victim.frozen(), torch.no_grad():
            for item in self.calibration:
                for case in item if isinstance(item, list) else [item]:
                    image = plain(entry(case, self.image_key, "image_key", "a case of calibration"))
                    for name, values in self.signals(victim, image[None].to(engine.state.device)).items():
                        found[name] += values.tolist()
        self.thresholds = {name: alarm_threshold(suspicion(name, values), self.rate) for name, values in found.items()}
        count = len(next(iter(found.values())))
        if count < 1 / self.rate:
            words = "%s: %d clean cases cannot fix a rate of %g false alarms; the threshold is the most suspicious of them"
            logger.warning(words, type(self).__name__, count, self.rate)
        announce(engine, type(self).__name__, self.settings())

    def victim(self, engine: Engine) -> Victim:
        """The deployed network, with its defence and inferer."""
        return self.view.victim(network_of(engine), engine.inferer, engine.state.device)  # type: ignore[attr-defined]

    def __call__(self, engine: Engine) -> None:
        image, label = (plain(x).to(engine.state.device) for x in batch_images(engine.state.batch, self.image_key, self.label_key))
        victim = self.victim(engine)
        with victim.frozen(), torch.no_grad():
            found = {name: values.tolist() for name, values in self.readings(victim, image, label).items()}
        for name in self.names:
            found[f"{name}_alarm"] = [float(s > self.thresholds[name]) for s in suspicion(name, found[name])]
        told = {("image", "alarm_rate"): self.rate, ("image", "dice_goal"): self.goal}
        add_readings(engine, [{**told, **{("image", n): float(v[i]) for n, v in found.items()}} for i in range(len(image))])


def plain(x: Tensor) -> Tensor:
    """Without metadata, floating."""
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    return x if x.is_floating_point() else x.float()
