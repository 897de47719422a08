"""The model's own key metric beside the Dice that the audit records, and in words why the two differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine as Ignite
from ignite.engine import Events
from torch import Tensor

from monai_advdef.audit.scoring.forms import background_first
from monai_advdef.audit.scoring.grid import LEFT, OWN_LABEL, OWN_PRED
from monai_advdef.audit.scoring.scores import APART
from monai_advdef.errors import reason
from monai_advdef.handlers.cell import Engine, items_of
from monai_advdef.switches import as_written

SAME = 5e-4  # by which a way of counting hits the model's own number


@dataclass(frozen=True)
class OwnScore:
    """What the model's own evaluation comes to: ``name`` and ``value`` of its key metric, and its ``kind`` (``"MeanDice"``).

    ``counted`` has the mean Dice of the same predictions and labels by ways of counting, in words; ``inverted`` tells whether its
    postprocessing takes the label to the network's grid and back.
    """

    name: str
    value: float
    kind: str
    counted: Mapping[str, float] = field(default_factory=dict)
    inverted: bool = False


class OwnMetric:
    """Attaches a model's own key metric to what its own postprocessing left, before that is brought to the files' grid.

    Each metric's handlers run in an engine of their own that sees, case by case, the model's own keys. What they come to is in
    ``scores``; why one cannot be computed in ``failed``.

    Args:
        metrics: name -> handler (MONAI's ``MeanDice``, an ignite metric), as an evaluator takes them; ``None`` or none: nothing.
        classes: names of the foreground classes.
        activation: ``"softmax"`` or ``"sigmoid"``.
        inverted: the model's postprocessing inverts the label.
    """

    @as_written
    def __init__(
        self, metrics: Mapping[str, Any] | None, classes: Sequence[str], *, activation: str = "softmax", inverted: bool = False
    ) -> None:
        self.metrics, self.inverted = dict(metrics or {}), inverted
        self.classes = len(classes) + 1 if activation == "softmax" else None
        self.background = activation == "softmax" or background_first(classes, activation)
        self.scores: list[OwnScore] = []
        self.failed: dict[str, str] = {}
        self._shadows = {name: Ignite(lambda engine, batch: batch) for name in self.metrics}
        for name, metric in self.metrics.items():
            metric.attach(self._shadows[name], name)
        self._table: list[tuple[np.ndarray, np.ndarray]] = []

    def attach(self, engine: Engine) -> None:
        """Count along with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.completed)

    def started(self, engine: Engine) -> None:
        """Begin anew."""
        self.scores, self.failed, self._table = [], {}, []
        for shadow in self._shadows.values():
            shadow.state.metrics = {}
            shadow.state.epoch_length = engine.state.epoch_length
        self._fire(Events.EPOCH_STARTED)

    def __call__(self, engine: Engine) -> None:
        outputs = items_of(engine.state.output)
        self._table += [_dice(output[OWN_PRED], output[OWN_LABEL], self.classes) for output in outputs]
        for shadow in self._shadows.values():
            shadow.state.iteration, shadow.state.batch = engine.state.iteration, engine.state.batch
            shadow.state.output = [output[LEFT] for output in outputs]  # type: ignore[assignment]
        self._fire(Events.ITERATION_STARTED)
        self._fire(Events.ITERATION_COMPLETED)

    def _fire(self, event: Events) -> None:
        """One metric that fails, as it would in the model's own evaluation, ends neither the audit nor the others."""
        for name, shadow in self._shadows.items():
            if name in self.failed:
                continue
            try:
                shadow.fire_event(event)
            except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
                self.failed[name] = f"{type(error).__name__}: {reason(error)}"

    def completed(self, engine: Engine) -> None:
        """Read the metrics."""
        self._fire(Events.EPOCH_COMPLETED)
        counted = ways_of_counting(self._table, background=self.background)
        for name, metric in self.metrics.items():
            if name in self.failed:
                continue
            value = torch.as_tensor(self._shadows[name].state.metrics[name]).double()
            self.scores.append(OwnScore(name, float(value.nanmean()), type(metric).__name__, counted, self.inverted))


def _dice(prediction: Tensor, label: Tensor, classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Dice of every class of maps, background first, or of every mask, NaN where both are empty; and whether the label holds it."""
    found, true = (torch.as_tensor(x).as_subclass(Tensor).cpu().flatten(1).long() for x in (prediction, label))
    if classes is None:
        hit, one, other = (found & true).sum(1), found.sum(1), true.sum(1)
    else:
        table = torch.bincount(true[0] * classes + found[0], minlength=classes * classes).reshape(classes, classes)
        hit, one, other = table.diagonal(), table.sum(0), table.sum(1)
    return (2 * hit / (one + other)).double().numpy(), (other > 0).numpy()


def ways_of_counting(table: Sequence[tuple[np.ndarray, np.ndarray]], *, background: bool) -> dict[str, float]:
    """Mean Dice by ways that evaluations count, in words; ``""`` is this house's: foreground, both empty is 1.

    Args:
        table: of each case the Dice of every class (NaN where both masks are empty), and whether the label holds it.
        background: whether the first class is that; else they are masks, of which MONAI leaves out the first without background.
    """
    if not table:
        return {}
    dice, there = (np.stack(part) for part in zip(*table))
    filled = np.where(np.isnan(dice), 1.0, dice)
    held = np.where(there, dice, np.nan)
    fore = slice(1, None) if background else slice(None)
    absent = "it leaves out classes that the label of a case does not hold"
    found = {"": filled[:, fore].mean(), absent: _by_case(held[:, fore])}
    part = "it counts the background as a class" if background else "it leaves out the first of the classes"
    other = slice(None) if background else slice(1, None)
    by_class = f"{absent}, and averages the cases of each class first"
    found |= {by_class: _by_case(held[:, fore].T)}
    if filled[:, other].size:  # of a lone mask nothing is left beside the first
        found |= {part: filled[:, other].mean(), f"{part}, and {absent}": _by_case(held[:, other])}
        found |= {f"{part}; {by_class}": _by_case(held[:, other].T)}
    if background and dice.shape[1] > 2:  # of class numbers in one channel MONAI scores those that are 1; where there are none, 0
        alone = _by_case(held[:, 1:2])
        found["it scores class 1 alone, as MONAI does of class numbers in one channel"] = 0.0 if np.isnan(alone) else alone
    return {words: float(value) for words, value in found.items()}


def _by_case(values: np.ndarray) -> float:
    """MONAI's mean: over the classes of a case, then over the cases that have any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means of nothing
        return float(np.nanmean(np.nanmean(values, axis=1))) if values.size else float("nan")


def explain(own: OwnScore, on_network_grid: float, on_file_grid: float) -> list[str]:
    """Why the model's own key metric is another number than the mean Dice on the files' grid; empty where it is within .005.

    Args:
        own: see :class:`OwnMetric`.
        on_network_grid: mean ``network_dice`` over classes and cases of the clean evaluation.
        on_file_grid: mean ``dice`` there.
    """
    if abs(own.value - on_file_grid) <= APART:
        return []
    told = [f"the model's own key metric {own.name} is {own.value:.4f}, mean Dice on the grid of the label files {on_file_grid:.4f}"]
    best = min(own.counted, key=lambda words: abs(own.counted[words] - own.value), default="")
    hit = abs(own.counted.get(best, float("inf")) - own.value) <= SAME
    if hit and best:
        told.append(f"{best}: so counted, the same predictions and labels come to {own.counted[best]:.4f}")
    if abs(on_network_grid - on_file_grid) > APART:
        why = "its postprocessing takes the label to the network's grid and back" if own.inverted else "it scores on another grid"
        told.append(f"{why}: there mean Dice is {on_network_grid:.4f}, against the untouched label files {on_file_grid:.4f}")
    if not hit and abs(own.value - on_network_grid) > APART:
        dice = "dice" in own.kind.lower()
        told.append(
            f"the rest, {own.value - on_network_grid:+.4f} against {on_network_grid:.4f} on the same predictions, is not explained"
            if dice
            else f"{own.kind} is no Dice, and its number says something else"
        )
    return told
