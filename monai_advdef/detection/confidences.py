"""Does confidence warn? What a network says of its own certainty, and how far that is true, on clean and on attacked images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_advdef.detection.handler import SignalHandler
from monai_advdef.types import Logits, PerCase
from monai_advdef.victim import Victim

BINS = 15  # as Guo et al. 2017


def confidence(logits: Logits, activation: str = "softmax") -> dict[str, PerCase]:
    """Per case ``confidence``, the mean over all voxels of the probability of the answer given there; ``confidence_foreground``,
    that over the voxels predicted as foreground (NaN where there is none); ``entropy``, the mean entropy as a share of the largest
    possible. Of a sigmoid head every channel of a voxel counts as a voxel with the answers yes and no."""
    sure, found, entropy = _voxels(logits, activation)
    count = found.sum(1)
    foreground = torch.where(count > 0, (sure * found).sum(1) / count.clamp_min(1), torch.nan)
    return {"confidence": sure.mean(1), "confidence_foreground": foreground, "entropy": entropy.mean(1)}


def calibration_error(sure: Tensor, right: Tensor, where: Tensor | None = None, bins: int = BINS) -> PerCase:
    """Expected calibration error per case: the mean over voxels of |accuracy - confidence| of the voxel's bin of confidence.

    Args:
        sure: (B, N) probability of the answer given.
        right: (B, N) whether it is the labelled one.
        where: (B, N) the voxels that count; all by default. NaN where none does.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3, with bins of equal width.
    """
    weight = torch.ones_like(sure, dtype=torch.float64) if where is None else where.double()
    at = (sure * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gap = torch.zeros(len(sure), bins, dtype=torch.float64, device=sure.device)
    gap.scatter_add_(1, at, (right.double() - sure.double()) * weight)
    total = weight.sum(1)
    return torch.where(total > 0, gap.abs().sum(1) / total.clamp_min(1), torch.nan)


def _voxels(logits: Logits, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of the answer given, whether that is foreground, and entropy in 0..1; each (B, N)."""
    if activation == "softmax":
        log = logits.double().log_softmax(1)
        best = log.max(1)
        entropy = -(log.exp() * log).sum(1) / math.log(logits.shape[1])
        return best.values.exp().flatten(1), best.indices.flatten(1) > 0, entropy.flatten(1)
    z = logits.double()
    p = z.sigmoid()
    entropy = -(p * F.logsigmoid(z) + (1 - p) * F.logsigmoid(-z)) / math.log(2)
    return torch.maximum(p, 1 - p).flatten(1), z.flatten(1) > 0, entropy.flatten(1)


class ConfidenceHandler(SignalHandler):
    """Records how sure the network is of every case: what :func:`confidence` gives, each with its alarm (see
    :class:`SignalHandler`), and ``ece``, ``ece_foreground``: calibration errors over all voxels, and over those predicted or
    labelled as foreground, which the background does not drown.

    Cost: one pass through the network per case, and one per case of ``calibration`` when the run starts.
    """

    names = ("confidence", "confidence_foreground", "entropy")

    def signals(self, victim: Victim, image: Tensor) -> dict[str, PerCase]:
        """See :func:`confidence`."""
        return confidence(victim(image), victim.activation)

    def readings(self, victim: Victim, image: Tensor, label: Tensor) -> dict[str, PerCase]:
        """The signals, and the calibration errors against the label."""
        logits = victim(image)
        truth = victim.encode(label, logits)
        sure, found, _ = _voxels(logits, victim.activation)
        given, true = victim.predict(logits).flatten(1), truth.flatten(1)
        right = given == true
        errors = {"ece": calibration_error(sure, right), "ece_foreground": calibration_error(sure, right, found | (true > 0))}
        return {**confidence(logits, victim.activation), **errors}
