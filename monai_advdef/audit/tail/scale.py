"""How much the input of a network moves where an image moves by eps: for tails that have no gradient."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_advdef.audit.tail.kinds import NotDifferentiable
from monai_advdef.audit.tail.tail import Tail

BLOCK = 8  # voxels that move together, so that an interpolation behind the scaling does not even them out


def local_scale(tail: Tail, image: Tensor, fed: Tensor, eps: float | Tensor) -> float | None:
    """Median over the voxels that move at all of ``|d fed| / eps``, measured with the deployed transforms; ``None`` if none does.

    Args:
        tail: what stands between image and ``fed``; it need not be differentiable.
        image: one case (C, \\*S), as the head gives it.
        fed: what the deployed chain made of it (C', \\*S').
        eps: how far every voxel is moved, up or down by blocks; one number, or (C, 1, ...).
    """
    plain = image.detach().as_subclass(Tensor).float()
    step = torch.as_tensor(eps, dtype=plain.dtype, device=plain.device)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 2, (len(plain), *(-(-n // BLOCK) for n in plain.shape[1:])), generator=generator) * 2.0 - 1
    for axis, n in enumerate(plain.shape[1:], start=1):
        coarse = coarse.repeat_interleave(BLOCK, axis).narrow(axis, 0, n)
    moved = plain + coarse.to(plain) * step
    try:
        after = tail.as_deployed(MetaTensor(moved).copy_meta_from(image) if isinstance(image, MetaTensor) else moved)
    except (NotDifferentiable, RuntimeError, KeyError, ValueError, TypeError):
        return None
    before = fed.detach().as_subclass(Tensor).float()
    if after.shape != before.shape:
        return None
    off = (after - before).abs()
    off = off[off > 1e-4 * off.max()]
    return float(off.median() / step.abs().mean()) if off.numel() else None
