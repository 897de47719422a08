"""The one loop of the house: an attack says where to start and how to step; everything else happens here, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_advdef.attacks.core import Attack, Outcome
from monai_advdef.attacks.descent import Run
from monai_advdef.attacks.looks import look_twice
from monai_advdef.threat import ThreatModel
from monai_advdef.types import Given
from monai_advdef.victim import Victim


def run(
    attack: Attack,
    victim: Victim,
    threat: ThreatModel,
    image: Given,
    label: Given,
    *,
    target: Given = None,
    seed: int | Sequence[int] = 0,
    start: Given = None,
) -> Outcome:
    """Attack a batch.

    Args:
        attack, victim, threat: who does what to whom, and within which bounds.
        image: (B, C, \\*S) in image units.
        label: (B, 1, \\*S) class map, or one-hot or multi-label (B, K, \\*S).
        target: like ``label``; makes any attack a targeted one.
        seed: one whole number, or one per case. A case's result depends on its own seed alone, never on its batch.
        start: images (B, C, \\*S) in which every restart begins (the nearest that the threat allows), in place of the attack's own.

    A case that is won (score 1; ``keep="best"``, nothing drawn at random) leaves the batch, and the passes go to the others.

    Raises:
        ValueError: pixels that are NaN, out of range or in another unit; labels outside the classes; a target that is missing; a
            start of another shape, or out of range.
    """
    (outcome,) = run_sweep(attack, victim, [threat], image, label, target=target, seed=seed, start=start)
    return outcome


def run_sweep(
    attack: Attack,
    victim: Victim,
    threats: Sequence[ThreatModel],
    image: Given,
    label: Given,
    *,
    target: Given = None,
    seed: int | Sequence[int] = 0,
    start: Given = None,
) -> list[Outcome]:
    """Attack a batch under several threat models: bit for bit what :func:`run` returns for each, often for fewer gradients.

    Descents go together, at the price of one, until a ball parts them. Steps that do not depend on eps, such as i-FGSM's grey level
    (rule ``"grey_level"``), make the descents of all eps one until eps is reached. ``forwards`` and ``backwards`` of an outcome
    count what it would have cost alone; ``shared`` says how much of it another outcome has paid for.

    Args and errors: see :func:`run`. Behind a stochastic defence nothing is shared.
    """
    check_batch(image, label, target, start, regridded=victim.prepare is not None)
    seeds = [int(seed)] * len(image) if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != len(image):
        raise ValueError(f"seed has {len(seeds)} numbers for {len(image)} cases; give one, or one per case")
    with victim.frozen():
        image, label, given, start = (None if x is None else _plain(x) for x in (image, label, target, start))
        runs = [Run(attack, victim, threat, image, label, given, seeds, start) for threat in threats]
        victim.require_range(image)
        look_twice(victim, image)
        for _ in range(attack.restarts):
            _descend(runs, together=_may_share(attack, victim, runs))
        return [one.outcome(seed if isinstance(seed, int) else list(seed)) for one in runs]


def _may_share(attack: Attack, victim: Victim, runs: Sequence[Run]) -> bool:
    """Whether what is found at an image does for all: no draws, and no loss of the attack's own that may follow its schedule."""
    plain = type(attack).gradient is Attack.gradient and not victim.stochastic
    return plain and (type(attack).loss is Attack.loss or len({one.steps for one in runs}) == 1)


def _descend(runs: Sequence[Run], *, together: bool) -> None:
    """One descent of every run; those that have come the same way so far share the next gradient."""
    for one in runs:
        one.start()
    paths, number = [list(runs)] if together else [[one] for one in runs], 0
    while paths := [part for path in paths for part in _parted([one for one in path if one.goes_on(number)])]:
        for path in paths:
            found = path[0].look(number)
            for one in path:
                one.advance(*found, number, shared=one is not path[0])
        number += 1
    for one in runs:
        one.finish()


def _parted(path: Sequence[Run]) -> list[list[Run]]:
    """The runs of one path, those still at the same image together."""
    parts: list[list[Run]] = []
    for one in path:
        here = next((part for part in parts if part[0].stands_with(one)), None)
        if here is None:
            parts.append([one])
        else:
            here.append(one)
    return parts


def check_batch(image: Any, label: Any, target: Any = None, start: Any = None, *, regridded: bool = False) -> None:
    """Nothing, where image, label, target and start are tensors of one batch.

    Labels and targets lie on the grid of the logits, which is that of the image unless it is ``regridded`` on the way.

    Raises:
        ValueError: naming what is no tensor, has no batch dimension, is empty, or has another size than the image.
    """
    for name, x in (("image", image), ("label", label), ("target", target), ("start", start)):
        if x is None and name in ("target", "start"):
            continue
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} must be a torch tensor (B, C, *S), got {type(x).__name__}; torch.as_tensor(...) makes one")
        if x.ndim not in (4, 5) or x.numel() == 0:
            raise ValueError(
                f"{name} must be a batch (B, C, H, W) or (B, C, D, H, W) with at least one voxel, got shape {tuple(x.shape)}; add "
                "the missing dimension, of one case x[None], of one channel x[:, None]"
            )
        if x.is_complex():
            raise ValueError(f"{name} must hold real numbers, got {x.dtype}; take the magnitude: x.abs()")
        elsewhere = regridded and name in ("label", "target") and x.ndim == image.ndim  # the victim compares it with its logits
        if len(x) != len(image) or (x.shape[2:] != image.shape[2:] and not elsewhere):
            raise ValueError(f"{name} has shape {tuple(x.shape)}, the image {tuple(image.shape)}; cases and sizes must agree")
    if start is not None and start.shape != image.shape:
        raise ValueError(f"start has shape {tuple(start.shape)}, the image {tuple(image.shape)}; give an image of the same channels")


def _plain(x: Tensor) -> Tensor:
    """A detached plain float32 tensor (no MetaTensor: gradients would carry its metadata along)."""
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    return x.detach().float() if not torch.is_inference(x) else x.detach().float().clone()
