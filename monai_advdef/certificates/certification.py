"""From votes to certificates: exact tests of every voxel, corrected for their number, and the lower bound on Dice they give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betainc
from torch import Tensor

from monai_advdef.certificates.votes import Smoothing, Votes
from monai_advdef.stats import holm


@dataclass(frozen=True)
class Certificate:
    """What holds of the smoothed network for every change of L2 length below ``radius`` (image units).

    ``prediction`` is a class map (1, \\*S) or masks (K, \\*S); where ``certified`` (same shape, boolean) is false it abstains. All
    certified voxels of the image together are right with probability at least 1 - alpha.
    """

    prediction: Tensor
    certified: Tensor
    radius: float
    tau: float

    @property
    def abstained(self) -> float:
        """The share of the voxels (of a sigmoid head, of the voxels of all channels) of which nothing is certified."""
        return 1 - float(self.certified.double().mean())


def p_values(n: int, tau: float) -> np.ndarray:
    """P[Bin(n, tau) >= k] for k = 0..n, the p-values of "this answer has at most a share tau" given k of n votes.

    By the regularised incomplete beta function: I_tau(k, n - k + 1).
    """
    k = np.arange(1, n + 1, dtype=float)
    return np.concatenate([[1.0], betainc(k, n - k + 1, tau)])


def draws_needed(voxels: int, tau: float, alpha: float) -> int:
    """The least n for which at least a voxel that all draws agree on can be certified: tau^n <= alpha / voxels."""
    return math.ceil(math.log(alpha / voxels) / math.log(tau) - 1e-9)


def certify(smoothing: Smoothing, votes: Votes) -> list[Certificate]:
    """The certificate of one image at every tau, each at level alpha by itself.

    Raises:
        ValueError: so few draws that no voxel could be certified, whatever the votes; says how many are needed.

    Source: Fischer et al., ICML 2021, algorithm 2 (exact binomial tests, correction over voxels, abstention); Holm, Scand. J.
    Statist. 6:65, 1979.
    """
    made = []
    for tau in smoothing.taus:
        voxels = votes.count.numel()
        needed = draws_needed(voxels, tau, smoothing.alpha)
        if votes.n < needed:
            raise ValueError(
                f"n = {votes.n} draws can certify none of {voxels} voxels at tau {tau:g} and alpha {smoothing.alpha:g}, "
                f"even if all agree; draw n = {needed} or more (several times as many for voxels on which they do not)"
            )
        p = p_values(votes.n, tau)[votes.count.numpy().ravel()]
        certified = holm(p) <= smoothing.alpha if smoothing.correction == "holm" else p * p.size <= smoothing.alpha
        mask = torch.from_numpy(certified).reshape(votes.count.shape)
        made.append(Certificate(votes.chosen.cpu(), mask, smoothing.radius(tau), tau))
    return made


def certified_dice(certificate: Certificate, label: Tensor, classes: int | None = None) -> Tensor:
    """The lowest Dice per class that a change within the radius can leave, (K',) in float64.

    2 TP / (2 TP + FP + FN + A): TP, FP and FN over the certified voxels, A the voxels that abstain, each counted as an error: where
    the class is labelled it may be missed, where not it may be found. All classes hold together with probability at least 1 - alpha.
    A class that is neither labelled nor predicted anywhere scores 1 if no voxel abstains, as in all of this package, else 0.

    Args:
        label: (1, \\*S) class map with ``classes`` given (K' = classes - 1, without the background), or masks (K, \\*S).
    """
    label = label.cpu()
    if classes is None:
        prediction, truth, certified = certificate.prediction.bool(), label.bool(), certificate.certified
    else:
        numbers = torch.arange(1, classes).reshape(-1, *(1,) * (label.ndim - 1))
        prediction, truth = certificate.prediction == numbers, label.long() == numbers
        certified = certificate.certified.expand_as(prediction)
    found, true, sure = (x.flatten(1) for x in (prediction, truth, certified))
    tp = (found & true & sure).sum(1)
    errors = ((found ^ true) & sure).sum(1) + (~sure).sum(1)
    return torch.where(tp + errors == 0, 1.0, 2 * tp.double() / (2 * tp + errors).clamp_min(1))
