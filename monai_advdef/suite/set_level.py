"""The worst case of a whole set, for a metric that is computed from the voxels of all cases together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from monai_advdef.errors import nearest

METRICS = ("dice", "iou")


class WorstSet(NamedTuple):
    """``value`` of the metric, and ``choice`` (B,): of which attack each case counts."""

    value: float
    choice: Tensor


def pooled(counts: Tensor, metric: str = "dice") -> Tensor:
    """Dice or IoU of voxels pooled over all cases, mean over the classes: (..., B, K, 3) of :class:`~monai_advdef.suite.Judged` to
    (...). A class that nobody labelled or predicted counts 1."""
    return _metric(counts.double().sum(-3), metric)


def worst_set(counts: Tensor, metric: str = "dice") -> WorstSet:
    """For every case one of M attacks, such that the pooled metric over the set is low; greedy, case by case.

    The pooled metric is no mean over cases, so the worst attack of every case need not be the worst for the set. Begun from every
    attack alone and from the worst of every case, each case in turn changes to the attack that lowers the metric of the whole set
    most, until none does; so the value is never above any of these.

    Args:
        counts: (M, B, K, 3), true positives, predicted and labelled voxels of each attack, see :meth:`SuiteOutcome.counts`; NaN
            where an attack was not run on a case. One row, such as that of the clean images, must have all cases.
        metric: ``"dice"`` or ``"iou"``.

    Raises:
        ValueError: an unknown metric, another shape, a case that no attack has.

    Source: Croce et al., "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024,
    section 3.3 (the greedy search for the image-wise choice with the lowest mean IoU).
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; {nearest(str(metric), METRICS)}")
    if counts.ndim != 4 or counts.shape[-1] != 3 or 0 in counts.shape:
        raise ValueError(f"counts must be (attacks, cases, classes, 3) and not empty, got {tuple(counts.shape)}")
    table = counts.double().cpu()
    run = ~table.isnan().flatten(2).any(2)
    if not bool(run.any(0).all()):
        raise ValueError(f"case {int((~run.any(0)).nonzero()[0])} has no counts of any attack; give the clean ones as a row")
    own = torch.where(run, _metric(table, metric), torch.inf)
    lowest = own.argmin(0)
    starts = [lowest, *(torch.where(run[m], torch.full_like(lowest, m), lowest) for m in range(len(table)))]
    found = [_descended(table, run, start, metric) for start in starts]
    return min(found, key=lambda one: one.value)


def _descended(table: Tensor, run: Tensor, choice: Tensor, metric: str) -> WorstSet:
    """One greedy search: the cases in turn, again and again until none changes."""
    choice, cases = choice.clone(), range(table.shape[1])
    total = table[choice, torch.arange(table.shape[1])].sum(0)
    value, changed = float(_metric(total, metric)), True
    while changed:
        changed = False
        for i in cases:
            others = total - table[choice[i], i]
            values = torch.where(run[:, i], _metric(others + table[:, i], metric), torch.inf)
            best = int(values.argmin())
            if float(values[best]) < value - 1e-12:
                total, choice[i], value, changed = others + table[best, i], best, float(values[best]), True
    return WorstSet(value, choice)


def _metric(counts: Tensor, metric: str) -> Tensor:
    """(..., K, 3) to (...)."""
    tp, predicted, labelled = counts.unbind(-1)
    over, under = (2 * tp, predicted + labelled) if metric == "dice" else (tp, predicted + labelled - tp)
    return torch.where(under == 0, 1.0, over / under.clamp_min(1e-9)).mean(-1)
