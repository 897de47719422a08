"""What a network says of many noisy copies of an image: the votes from which the smoothed network is certified."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor, nn

from monai_advdef.attacks.looks import look_twice
from monai_advdef.attacks.loop import check_batch
from monai_advdef.switches import AsWritten
from monai_advdef.types import Given, Images
from monai_advdef.victim import Generators, Victim

CORRECTIONS = ("holm", "bonferroni")
MOST = 2**31 - 1  # of the integers that votes are counted in


@dataclass(frozen=True, kw_only=True)
class Smoothing(metaclass=AsWritten):
    """How an image is drawn around, and how sure a certificate must be.

    The noise is Gaussian, added in image units and *not* clipped to the valid range: clipped noise would carry no certificate. A
    network that has never seen such noise is certified for little; train it with noise of the same sigma.

    Args:
        sigma: standard deviation of the noise in image units.
        tau: which share of the votes a voxel's answer must be sure to have; a number or several, each with its radius.
        n: how many noisy copies are counted.
        n0: how many others choose the answer that is then counted.
        alpha: the certificate of an image (all its voxels together, at one tau) is wrong with at most this probability.
        correction: over the voxels: ``"holm"`` (never weaker) or ``"bonferroni"``.
        batch_size: how many noisy copies pass the network together.

    Raises:
        ValueError: naming the field, its value and the remedy.

    Source: Fischer et al., "Scalable Certified Segmentation via Randomized Smoothing", ICML 2021 (SegCertify), with its defaults.
    """

    sigma: float
    tau: float | Sequence[float] = 0.75
    n: int = 1000
    n0: int = 100
    alpha: float = 0.001
    correction: str = "holm"
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("n", "n0", "batch_size"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
                raise ValueError(f"{name} must be a whole number in 1..{MOST}, got {count!r}; n 1000 and n0 100 are usual")
        if not _number(self.sigma) or not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be > 0 in image units, got {self.sigma!r}; without noise nothing can be certified")
        if not self.taus or not all(_number(t) and 0.5 < t < 1 for t in self.taus):
            raise ValueError(
                f"tau must lie above 0.5 and below 1, got {self.tau!r}; the radius is sigma times the normal quantile of tau, which "
                "is 0 at 0.5"
            )
        if not _number(self.alpha) or not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie above 0 and below 1, got {self.alpha!r}; 0.001 is usual")
        if self.correction not in CORRECTIONS:
            raise ValueError(f"correction must be one of {', '.join(CORRECTIONS)}, got {self.correction!r}")

    @property
    def taus(self) -> list[float]:
        """Every tau, from the lowest."""
        return sorted(set(self.tau)) if isinstance(self.tau, (list, tuple)) else [self.tau]  # type: ignore[list-item]

    def radius(self, tau: float) -> float:
        """sigma Φ⁻¹(tau): the L2 length, in image units, of the largest change that a certificate at ``tau`` covers."""
        return float(self.sigma * norm.ppf(tau))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Votes:
    """The votes on one image: ``chosen`` from its first n0 draws, (1, \\*S) class map or (K, \\*S) masks; ``count`` of the other n
    draws for that answer, int32 of the same shape; ``most`` the answer most of the n draws give, like ``chosen``."""

    chosen: Tensor
    count: Tensor
    most: Tensor
    n: int


def draw_votes(smoothing: Smoothing, victim: Victim, image: Given, *, seed: int | Sequence[int] = 0) -> list[Votes]:
    """The votes on every image of a batch; n0 + n passes through the network for each.

    Memory: one batch of noisy copies with their logits, and the votes as one whole number per class and voxel, however many draws.
    The draws of a case depend on its seed alone, neither on its batch nor on ``batch_size``; those of a stochastic defence or
    network are fresh for each copy, which is then smoothed over both.

    Args:
        victim: the network (with its defence and inferer) that is smoothed.
        image: (B, C, \\*S) in image units.
        seed: one whole number, or one per case.

    Raises:
        ValueError: images that are no batch, or not finite; more copies at once than memory holds; what the network itself says.
    """
    check_batch(image, image)
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds NaN or infinite pixels; clean it before it is certified (MONAI's SignalFillEmpty does)")
    seeds = [int(seed)] * len(image) if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != len(image):
        raise ValueError(f"seed has {len(seeds)} numbers for {len(image)} cases; give one, or one per case")
    plain = image.as_tensor() if hasattr(image, "as_tensor") else image
    with victim.frozen(), torch.no_grad():
        victim.require_range(plain)
        plain = plain.detach().float()
        look_twice(victim, plain)
        return [_votes(smoothing, victim, case, s) for case, s in zip(plain, seeds)]


def _votes(smoothing: Smoothing, victim: Victim, case: Tensor, seed: int) -> Votes:
    noise, draws = (torch.Generator().manual_seed(s) for s in (seed, seed ^ (1 << 62)))
    first = _counted(smoothing, victim, case, smoothing.n0, noise, draws)
    table = _counted(smoothing, victim, case, smoothing.n, noise, draws)
    if victim.activation == "softmax":
        chosen, most = (t.max(0, keepdim=True).indices for t in (first, table))
        return Votes(chosen, table.gather(0, chosen), most, smoothing.n)
    chosen, most = 2 * first.long() > smoothing.n0, 2 * table.long() > smoothing.n
    return Votes(chosen, torch.where(chosen, table, smoothing.n - table), most, smoothing.n)


def _counted(
    smoothing: Smoothing, victim: Victim, case: Tensor, draws: int, noise: torch.Generator, other: torch.Generator
) -> Tensor:
    """How many of the noisy copies give each class (softmax) or say yes (sigmoid), (K, \\*S) int32 on the CPU."""
    size, table = min(smoothing.batch_size, draws), torch.zeros(0)
    _require_memory(size, case)
    for start in range(0, draws, size):
        copies = case.expand(min(size, draws - start), *case.shape).clone()
        for one in copies:  # one draw after the other, so that batch_size does not change them
            one.add_(torch.randn(case.shape, generator=noise).to(case), alpha=smoothing.sigma)
        try:
            logits = victim(copies, [other] * len(copies))
            found = victim.predict(logits)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise ValueError(_too_many(len(copies), case)) from error
        if not table.numel():
            table = torch.zeros(logits.shape[1:], dtype=torch.int32, device=logits.device)
        if victim.activation == "softmax":
            for k, votes in enumerate(table):
                votes += (found[:, 0] == k).sum(0)
        else:
            table += found.sum(0)
    return table.cpu()


def _require_memory(copies: int, case: Tensor) -> None:
    """Refuse a batch of which the images alone do not fit: a Linux machine would promise the memory and then end the process."""
    if case.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(case.device)
    elif hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if 2 * copies * case.numel() * case.element_size() > free:
        raise ValueError(_too_many(copies, case))


def _too_many(copies: int, case: Tensor) -> str:
    return (
        f"{copies} noisy copies of an image {tuple(case.shape)} at once do not fit in memory; lower batch_size (of {copies}), which "
        "changes no result"
    )


class _Noisy(nn.Module):
    """A victim's defence with noise in front, as a stochastic defence: an attack takes its mean over the draws."""

    stochastic = True

    def __init__(self, sigma: float, defense: Callable[..., Tensor] | None) -> None:
        super().__init__()
        self.sigma, self.defense = sigma, defense

    def forward(self, image: Images, generators: Generators = None) -> Images:
        own = generators or [torch.Generator().manual_seed(0) for _ in image]
        noise = torch.stack([torch.randn(image.shape[1:], generator=g) for g in own]).to(image)
        noisy = image + self.sigma * noise
        if self.defense is None:
            return noisy
        return self.defense(noisy, generators) if getattr(self.defense, "stochastic", False) else self.defense(noisy)


def smoothed(victim: Victim, sigma: float, *, draws: int = 16) -> Victim:
    """The smoothed network as an attack sees it: gradients and logits are means over noisy copies.

    An empirical attack (L2, with eps the certified radius) on it bounds what certificates of the same sigma can promise from above.
    """
    twin = copy.copy(victim)
    twin.defense, twin.draws = _Noisy(sigma, victim.defense), draws
    return twin
