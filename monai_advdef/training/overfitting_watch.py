"""The watch for catastrophic overfitting: a network that is robust to the one step it was trained on, and to no other attack."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from ignite.engine import Events

from monai_advdef.attacks import FGSM, PGD, run
from monai_advdef.handlers import VictimSettings
from monai_advdef.handlers.batches import entry, network_of
from monai_advdef.handlers.cell import Engine
from monai_advdef.handlers.options import gather, names_of, refuse_unknown
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, as_threat

logger = logging.getLogger(__name__)


class Look(NamedTuple):
    """Mean Dice on the watched cases at one validation, under one step and under several."""

    epoch: int
    fgsm: float
    pgd: float


class OverfittingWatch:
    """Before every validation of a training, attacks a few validation cases by FGSM and by PGD; both Dice go to the log.

    Catastrophic overfitting is told where Dice under PGD falls below a share ``drop`` of the best it has been, while Dice under
    FGSM has not. The validation is then skipped, so that its checkpoint is not written: what is kept is that of the last good
    epochs; with ``stop`` the training ends. A training that never was robust to PGD has nothing to lose and is not told: read the
    log.

    Args:
        validator: the training's evaluator, whose network is looked at and whose handlers keep the checkpoint.
        dataset: validation cases with image and label.
        threat: norm, budget and range, those of the training.
        cases: how many of them are watched, the first ones.
        steps: of PGD (soft Dice, falling steps, random start).
        objective: of FGSM, that of the training.
        drop: see above.
        stop: end the training; otherwise every later validation is judged anew.
        options: of :class:`monai_advdef.handlers.VictimSettings`.

    Raises:
        ValueError: ``cases`` below 1, ``drop`` outside 0..1, an unknown option or objective; when it runs, an empty dataset.

    Source: Wong et al., "Fast is better than free", ICLR 2020, section 5.4 (PGD on a few cases after every epoch), and Rice et al.,
    "Overfitting in adversarially robust deep learning", ICML 2020 (keep the checkpoint from before).
    """

    @as_written
    def __init__(
        self,
        validator: Any,
        dataset: Any,
        *,
        threat: ThreatModel | Mapping[str, Any],
        cases: int = 4,
        steps: int = 10,
        objective: str = "cross_entropy",
        drop: float = 0.5,
        stop: bool = True,
        seed: int = 0,
        image_key: str = "image",
        label_key: str = "label",
        **options: Any,
    ) -> None:
        if not isinstance(cases, int) or cases < 1:
            raise ValueError(f"cases must be a whole number ≥ 1, got {cases!r}; 4 are enough to see a collapse")
        if not 0 < drop < 1:
            raise ValueError(f"drop must lie above 0 and below 1, got {drop}; 0.5 tells a collapse to half of the best")
        self.view = gather(VictimSettings, None, options)
        refuse_unknown("OverfittingWatch", options, names_of(VictimSettings))
        self.validator, self.dataset, self.threat = validator, dataset, as_threat(threat)
        self.cases, self.drop, self.stop, self.seed = cases, float(drop), stop, int(seed)
        self.fgsm, self.pgd = FGSM(objective=objective), PGD(steps=steps, objective="dice", schedule="linear")
        self.image_key, self.label_key = image_key, label_key
        self.history: list[Look] = []
        self._trainer: Any = None

    def attach(self, engine: Engine) -> None:
        """To a trainer: look before each run of its validator."""
        self._trainer = engine
        self.validator.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, validator: Engine) -> None:
        look = self.look(validator)
        logger.info("epoch %d: Dice under FGSM %.3f, under PGD-%d %.3f", look.epoch, look.fgsm, self.pgd.steps, look.pgd)
        collapsed = self.collapsed(look)
        if collapsed:
            logger.warning(
                "catastrophic overfitting in epoch %d: Dice under PGD-%d fell from %.3f to %.3f while under FGSM it is %.3f; this "
                "network is robust to one step only. Its checkpoint is not kept; %s",
                *(look.epoch, self.pgd.steps, max(past.pgd for past in self.history), look.pgd, look.fgsm),
                "training ends here with that of before" if self.stop else "training goes on",
            )
            validator.terminate()  # before any batch: neither metrics nor a checkpoint of this epoch
            if self.stop:
                self._trainer.terminate()
        else:
            self.history.append(look)

    def look(self, validator: Engine) -> Look:
        """Attack the watched cases, one after the other."""
        device = torch.device(validator.state.device)
        victim = self.view.victim(network_of(validator), validator.inferer, device)  # type: ignore[attr-defined]
        left: dict[str, list[float]] = {"fgsm": [], "pgd": []}
        for item in islice((self.dataset[i] for i in range(len(self.dataset))), self.cases):
            image, label = (entry(item, key, key, "a validation case")[None].to(device) for key in (self.image_key, self.label_key))
            for name, attack in (("fgsm", self.fgsm), ("pgd", self.pgd)):
                left[name].append(1 - float(run(attack, victim, self.threat, image, label, seed=self.seed).score))
        if not left["pgd"]:
            raise ValueError("the watch has no validation case to attack; give it a dataset that is not empty")
        return Look(validator.state.epoch, *(sum(values) / len(values) for values in left.values()))

    def collapsed(self, look: Look) -> bool:
        """Whether Dice under PGD has collapsed since the best of the looks before, and Dice under FGSM has not."""
        if not self.history:
            return False
        best = {name: max(getattr(past, name) for past in self.history) for name in ("fgsm", "pgd")}
        return look.pgd < self.drop * best["pgd"] and look.fgsm >= self.drop * best["fgsm"]
