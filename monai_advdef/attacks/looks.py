"""Whether a network answers the same when it is asked twice: seen before it is attacked, for a lucky draw is no success."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from monai_advdef.logits import name_of, precision
from monai_advdef.types import Images, Logits
from monai_advdef.victim import Victim

# As a share of the largest logit: what floating point makes of the same batch twice, and of one case in batches of other sizes.
NOISE = {torch.float32: (1e-4, 8e-3), torch.float64: (1e-4, 8e-3), torch.float16: (1e-3, 3e-2), torch.bfloat16: (1e-3, 3e-2)}
DRAWN = 5e-4  # of the largest pixel, between two looks of a defence, as a mean over the pixels


def look_twice(victim: Victim, image: Images) -> Logits | None:
    """Tell, once for a victim, whether its network draws at random in evaluation mode (``victim.random``), and say so.

    The batch is looked at, and one of its cases alone. Such a network is attacked in expectation, like a stochastic defence. Behind
    a defence that says of itself that it draws nothing is looked at: there all is done in expectation.

    Args:
        victim: frozen.
        image: (B, C, \\*S) in image units.

    Returns:
        The logits (B, K, \\*S) that were seen; ``None`` where nothing was looked at.

    Raises:
        ValueError: a network whose answer for a case depends on the others of its batch; a defence whose answer does, or that draws
            without saying so.
    """
    if victim.random is not None or victim.drawing_defense:
        return None
    with torch.no_grad():
        defended = victim.defended(image)
        if victim.defense is not None:
            _check_defense(victim, defended, victim.defended(image[:1]))
        first, alone = victim.infer(defended), victim.infer(defended[:1])
        limit, batches = NOISE[precision(victim.network)]
        victim.random = False
        if _apart(first[:1], alone) <= limit:
            return first
        apart = _apart(first, victim.infer(defended))
        victim.random = apart > limit
    name = name_of(victim.network)
    if victim.random:
        warnings.warn(
            f"{name} draws at random in evaluation mode: two looks at the same images differ by {apart:.1%} of the largest "
            f"logit. It is attacked in expectation over {victim.draws} draws, and scored on fresh ones; switch the dropout or noise "
            "off for a fixed network",
            stacklevel=3,
        )
    elif _apart(first[:1], alone) > batches:
        raise ValueError(
            f"{name} answers otherwise for a case when others stand beside it in the batch (a batch normalisation that stays in "
            "training mode?); let it use its running statistics in evaluation, or set batch_size to 1"
        )
    return first


def _check_defense(victim: Victim, together: Tensor, alone: Tensor) -> None:
    """A defence that draws changes the image everywhere. One that rounds may step the other way in a block where a coefficient lies
    halfway: on a GPU its last bit depends on the size of the batch, and images in whole grey levels have many such ties."""
    if float((together[:1].double() - alone.double()).abs().mean() / together.double().abs().max().clamp_min(1e-12)) > DRAWN:
        raise ValueError(
            f"{type(victim.defense).__name__} gives another image at every look, or one that depends on the rest of the batch, "
            "without saying so; set its stochastic to True and let it take a generator per case"
        )


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-12))
