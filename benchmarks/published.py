"""Attacks of other people at the settings that they publish, as plain functions: what a suite of ours must not be weaker than.

None is used by the package. ``torchattacks`` and ``foolbox`` are run as they are, where they can be imported; SEA, SegPGD and
CosPGD are second implementations, written from the papers. Every function takes ``(look, image, label, ball, passes)`` and returns
the images of its best iterate per case; ``look(x, loss)`` gives (logits, Dice per case, gradient) and counts one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Look = Callable[[Tensor, Callable[[Tensor], Tensor] | None], tuple[Tensor, Tensor, Tensor | None]]
Loss = Callable[[Tensor, Tensor, float], Tensor]  # (logits, class map (B, 1, *S), share of the steps done) -> (B,)
MOMENTUM, ROSE = 0.75, 0.75  # Croce & Hein 2020


def segpgd(logits: Tensor, label: Tensor, done: float) -> Tensor:
    """Gu et al., "SegPGD", ECCV 2022: pixels still right weigh 1 - t / 2T, wrong ones t / 2T."""
    right = logits.detach().argmax(1) == label[:, 0]
    weight = torch.where(right, 1 - done / 2, done / 2)
    return (weight * functional.cross_entropy(logits, label[:, 0], reduction="none")).flatten(1).mean(1)


def cospgd(logits: Tensor, label: Tensor, done: float) -> Tensor:
    """Agnihotri et al., "CosPGD", ICML 2024: the weight is the cosine of the detached softmax and the one-hot label."""
    one_hot = functional.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    weight = functional.cosine_similarity(logits.detach().softmax(1), one_hot, dim=1)
    return (weight * functional.cross_entropy(logits, label[:, 0], reduction="none")).flatten(1).mean(1)


def masked(logits: Tensor, label: Tensor, done: float) -> Tensor:
    """SEA's masked cross-entropy: over the pixels that are still right."""
    right = logits.detach().argmax(1) == label[:, 0]
    return (right * functional.cross_entropy(logits, label[:, 0], reduction="none")).flatten(1).mean(1)


def balanced(logits: Tensor, label: Tensor, done: float) -> Tensor:
    """SEA's masked cross-entropy, every class weighted by the inverse of its size in the case."""
    right = logits.detach().argmax(1) == label[:, 0]
    sizes = functional.one_hot(label[:, 0], logits.shape[1]).flatten(1, -2).sum(1).clamp_min(1).to(logits.dtype)  # (B, K)
    weight = sizes.reciprocal().gather(1, label.flatten(1)).reshape(right.shape)
    return (weight * right * functional.cross_entropy(logits, label[:, 0], reduction="none")).flatten(1).sum(1)


def jensen_shannon(logits: Tensor, label: Tensor, done: float) -> Tensor:
    """SEA's Jensen-Shannon divergence of softmax and one-hot label."""
    p = logits.softmax(1)
    one_hot = functional.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1).to(p.dtype)
    middle = ((p + one_hot) / 2).clamp_min(1e-12).log()
    halves = [(q * (q.clamp_min(1e-12).log() - middle)).sum(1) for q in (p, one_hot)]
    return (sum(halves) / 2).flatten(1).mean(1)


class _Best:
    """The iterate of the lowest Dice per case."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.dice = x.clone(), torch.full((len(x),), 2.0, device=x.device)

    def see(self, x: Tensor, dice: Tensor) -> None:
        lower = dice < self.dice
        self.x[lower], self.dice = x[lower], torch.minimum(self.dice, dice)


def descent(loss: Loss, step: float) -> Callable[..., Tensor]:
    """Sign steps of ``step`` image units from a random start."""

    def attack(look: Look, image: Tensor, label: Tensor, ball: Any, passes: int) -> Tensor:
        x = _start(ball)
        best = _Best(x)
        for k in range(passes):
            _, dice, gradient = look(x, lambda logits, k=k: loss(logits, label, k / passes))
            best.see(x, dice)
            x = ball.project(x + step * ball.direction(gradient))
        best.see(x, look(x, None)[1])
        return best.x

    return attack


def sea(look: Look, image: Tensor, label: Tensor, ball: Any, passes: int) -> Tensor:
    """Croce et al., ECCV 2024: three runs of Auto-PGD of a third of the passes, with radii 2, 1.5 and 1 eps for 30, 30 and 40 %."""
    best = _Best(image)
    for loss in (balanced, masked, jensen_shannon):
        x, steps = _start(ball.of(2.0)), passes // 3
        for radius, share in ((2.0, 0.3), (1.5, 0.3), (1.0, 0.4)):
            inside = ball.of(radius)
            x = _auto_pgd(look, label, inside, inside.project(x.clone()), loss, round(share * steps), best if radius == 1 else None)
    return best.x


def _start(ball: Any) -> Tensor:
    return ball.start([torch.Generator().manual_seed(i) for i in range(len(ball.image))])


def _auto_pgd(look: Look, label: Tensor, ball: Any, x: Tensor, loss: Loss, steps: int, best: _Best | None) -> Tensor:
    """Croce & Hein, ICML 2020; returns the iterate of the highest loss per case."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    length = torch.full((len(x),), 2.0, device=x.device)  # in eps
    top, last, since, window = x.clone(), x.clone(), 0, max(int(0.22 * steps), 1)
    highest = torch.full((len(x),), -torch.inf, device=x.device)
    at_last_check, reduced, rises, before = highest.clone(), torch.ones_like(highest).bool(), torch.zeros_like(highest), None
    slope = torch.zeros_like(x)
    top_slope = slope.clone()
    for k in range(steps):
        logits, dice, gradient = look(x, lambda out: loss(out, label, 0.0))
        assert gradient is not None
        if best is not None:
            best.see(x, dice)
        value = loss(logits, label, 0.0)
        rises, since = rises + (value > before if before is not None else 0), since + 1
        before, slope = value, gradient
        higher = value > highest
        top[higher], top_slope[higher], highest = x[higher], slope[higher], torch.maximum(highest, value)
        if since == window and k:
            halve = (rises < ROSE * window) | (~reduced & (at_last_check >= highest))
            length[halve] /= 2
            x, slope = x.clone(), slope.clone()
            x[halve], slope[halve] = top[halve], top_slope[halve]
            reduced, at_last_check, since, rises = halve, highest.clone(), 0, torch.zeros_like(highest)
            window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
        there = ball.project(x + length.reshape(shape) * ball.eps * ball.direction(slope))
        past, weight = x - last, 1.0 if k == 0 else MOMENTUM
        last, x = x, ball.project(x + weight * (there - x) + (1 - weight) * past)
    if best is not None:
        best.see(x, look(x, None)[1])
    return top
