"""Corrupt every batch of an evaluation; labels follow, and of several draws the worst is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import Trainer
from torch import Tensor

from monai_advdef.attacks.core import judged, success
from monai_advdef.errors import DataError
from monai_advdef.handlers.attack import AttackHandler
from monai_advdef.handlers.batches import Attacked, batch_images, put_image
from monai_advdef.handlers.cell import Engine, case_seeds, items_of
from monai_advdef.handlers.corruption.corrupted import Corrupted
from monai_advdef.handlers.options import VictimSettings, gather, names_of, refuse_unknown, take, threat_of
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, measure

logger = logging.getLogger(__name__)
OWN = ("corruption", "severity", "queries", "spacing", "adaptive", "seed", "image_key", "label_key")


class CorruptionHandler(AttackHandler):
    """Replace the image of every batch by a corrupted one, and its label by one that went the same way.

    It is an :class:`AttackHandler` for records, guard and card: the evaluation stands in the table under the name of the corruption
    with its severity and physical values, norm "unbounded". No intensity budget applies, the range of the parameters does. With one
    query the network is not asked; with more, every case keeps the draw that leaves the lowest Dice, on the network's own grid.

    Args:
        corruption, severity, queries, spacing: see :class:`Corrupted`.
        threat: what the images are (its ``unit`` and ``value_range``), ready-made or as a mapping (a bundle's ``threat_def``).
        victim: how the network is looked at by the search, see :class:`VictimSettings`; or flat options.
        adaptive: whether the search looks through a defence.
        seed: of the draws.
        image_key, label_key: keys of the batch.

    Raises:
        ValueError: an unknown corruption or option; a unit of another modality; when it runs, an image that contradicts its unit or
            says nothing of its spacing, with the name of the case.
    """

    @as_written
    def __init__(
        self,
        corruption: str = "RigidMotion",
        severity: float = 3.0,
        threat: ThreatModel | Mapping[str, Any] | None = None,
        *,
        queries: int = 1,
        spacing: Sequence[float] | float | None = None,
        victim: VictimSettings | Mapping[str, Any] | None = None,
        adaptive: bool = True,
        seed: int = 0,
        image_key: str = "image",
        label_key: str = "label",
        **options: Any,
    ) -> None:
        known = [*names_of(VictimSettings), *names_of(ThreatModel), *OWN]
        refuse_unknown("CorruptionHandler", [name for name in options if name not in known], known)
        view = gather(VictimSettings, victim, options)
        bounds = {**take(options, ThreatModel), "norm": "unbounded", "relative": False, "region": None}
        noun = Corrupted(corruption=corruption, severity=severity, queries=queries, spacing=spacing)
        super().__init__(
            noun,
            threat_of(threat, bounds),
            victim=view,
            adaptive=adaptive,
            seed=seed,
            image_key=image_key,
            label_key=label_key,
        )
        noun.draw(0, self.seed, self.threat)  # a corruption of another modality is refused before anything is read

    @property
    def noun(self) -> Corrupted:
        """What is done to the images."""
        return self.attack  # type: ignore[return-value]

    def __call__(self, engine: Engine) -> None:
        """Corrupt a batch."""
        if isinstance(engine, Trainer):
            raise ValueError(f"CorruptionHandler is for evaluations; train with {self.noun.corruption}d among the transforms")
        begun, batch = time.perf_counter(), engine.state.batch
        image, label = batch_images(batch, self.image_key, self.label_key)
        names = self.cases.names(batch)
        found, labels, scores = self._worst(engine, names)
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        size = measure(found, plain.float())
        put_image(batch, self.image_key, found)
        put_image(batch, self.label_key, labels)
        count = len(names)
        forwards = 0 if self._victim is None else self.noun.queries * self._victim.passes
        engine.state.attack = Attacked(  # type: ignore[attr-defined]
            engine.state.iteration,
            plain,
            None,
            score=scores.tolist(),
            linf=size["linf"].tolist(),
            l2=size["l2"].tolist(),
            forwards=[forwards] * count,
            backwards=[0] * count,
            seconds=[(time.perf_counter() - begun) / count] * count,
            zero_gradient=[float("nan")] * count,
        )
        self.touched, self.seen = self.touched + 1, self.seen + count
        logger.info("%s: batch %d of %s", self.label, self.touched, engine.state.epoch_length)

    def _worst(self, engine: Engine, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Image, label and score of every case: of the only draw, or of the one with the highest score (1 - Dice)."""
        items = items_of(engine.state.batch)
        image, label = self._draw(0, items, names)
        if self.noun.queries == 1:
            return image, label, torch.full((len(items),), torch.nan)
        if self._victim is None:
            self._victim = self._make_victim(engine)
        score = self._score(image, label, names, engine)
        for number in range(1, self.noun.queries):
            other, moved = self._draw(number, items, names)
            theirs = self._score(other, moved, names, engine)
            better = theirs > score
            image[better], label[better] = other[better], moved[better]
            score = torch.where(better, theirs, score)
        return image, label, score

    def _draw(self, number: int, items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Images and labels of one draw, on the device of the batch."""
        transform, made = self.noun.draw(number, self.seed, self.threat), []
        for name, item in zip(names, items):
            try:
                made.append(transform.both(item[self.image_key], item[self.label_key]))
            except DataError as error:
                raise DataError(f"case {name}: {error}") from error
        image, label = (torch.stack([torch.as_tensor(x) for x in part]) for part in zip(*made))
        return _bare(image), _bare(label)

    def _score(self, image: Tensor, label: Tensor, names: Sequence[str], engine: Engine) -> Tensor:
        """1 - Dice of each case, on the CPU; a victim that draws at random draws anew, from the same stream for every draw."""
        victim = self._victim
        assert victim is not None
        generators = [torch.Generator().manual_seed(s) for s in case_seeds(self.seed, names)]
        with victim.frozen(), torch.no_grad():
            given = image.to(engine.state.device).float()
            victim.require_range(given)
            logits, *_ = judged(victim, given, lambda out: torch.zeros(len(out)), generators)
            return success(victim, logits, victim.encode(label, logits), False).cpu()


def _bare(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x
