"""What a network makes of a batch: real logits in float32, or words that say why there are none."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.types import Images, Logits

PRECISIONS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
PRECISION = re.compile(
    r"not implemented for|should be the same|same (dtype|data ?type)|scalar type|expected .*(Half|BFloat16|Double)"
)
CUT = re.compile(r"numpy\(\) on Tensor that requires grad|inference tensors cannot be saved", re.IGNORECASE)
AXES = re.compile(r"expected [0-9]+D .*input|dimensional input", re.IGNORECASE)  # torch's layers on the wrong number of axes
SIZE = re.compile(
    r"sizes? of (the )?tensors?|kernel size can't be greater|spatial element|padding size|output size is too small|"
    r"divisible by|invalid for input of size|"
    r"calculated .*input size|expected size|expected [0-9]+D|shapes? .*cannot be (multiplied|broadcast)",
    re.IGNORECASE,
)


class NonFinite(ValueError):
    """Logits or weights that are NaN or infinite; ``cases`` are the places in the batch."""

    def __init__(self, words: str, cases: list[int]) -> None:
        super().__init__(words)
        self.cases = cases


def precision(network: Any) -> torch.dtype:
    """The floating type of the network's first weight or buffer; float32 where it has none."""
    if not isinstance(network, nn.Module):
        return torch.float32
    every = itertools.chain(network.parameters(), network.buffers())
    return next((x.dtype for x in every if x.dtype in PRECISIONS), torch.float32)


def name_of(network: Any) -> str:
    """What a network is called in words; a scripted one by the class it was made from."""
    return str(getattr(network, "original_name", None) or type(network).__name__)


def logits_of(network: Callable[..., Any], x: Images, normalize: Callable[[Tensor], Tensor] | None, named: Any) -> Logits:
    """Logits (B, K, \\*S) in float32 of images (B, C, \\*S) in image units; the network is given them in its own precision.

    Args:
        network: what is called.
        x: the images; gradients flow back to them in their own precision.
        normalize: between image units and the network; computed in float32, or in float64 for a network in float64.
        named: the network whose name and precision count, where ``network`` is its compiled twin.

    Raises:
        ValueError: the network cannot take such images (size, channels, precision), or what it returns are no logits of its input.
    """
    dtype = precision(named)
    given = x.to(torch.float64 if dtype is torch.float64 else torch.float32, copy=True)  # networks overwrite their input
    given = (given if normalize is None else normalize(given)).to(dtype)
    try:
        out = network(given)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, torch.jit.Error) as error:
        words = why_not(named, given, str(error))
        if words is None:
            raise
        raise ValueError(words) from error
    out = _deployed_head(out, x, name_of(named))
    if x.requires_grad and torch.is_grad_enabled() and not out.requires_grad:
        raise ValueError(no_gradient(named))
    return out.float()


def no_gradient(network: Any, error: str = "") -> str:
    """Words for logits from which no gradient flows back to the image, or for the ``error`` of a network that lets none pass."""
    what = f"lets no gradient pass ({error})" if error else "returned logits without a gradient"
    return (
        f"{name_of(network)} {what} (a detach, argmax, numpy or no_grad inside it, or weights quantised to integers?); the attack "
        "needs the logits of the network before that"
    )


def standardizer(mean: Any, std: Any) -> Callable[[Tensor], Tensor]:
    """``(x - mean) / std``, with one number or one per channel each.

    Raises:
        ValueError: when used, a mean that is not finite, or a deviation that is not above 0.
    """
    means, stds = (torch.as_tensor(v, dtype=torch.float64).flatten() for v in (mean, std))
    sound = bool(torch.isfinite(means).all() and torch.isfinite(stds).all() and (stds > 0).all())

    def standardize(x: Tensor) -> Tensor:
        if not sound:
            raise ValueError(
                f"normalize must be (mean, std) with finite numbers and std > 0, got ({mean}, {std}); (0, 1) changes nothing"
            )
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - means.to(x).reshape(shape)) / stds.to(x).reshape(shape)

    return standardize


def check_finite(logits: Tensor, network: Any) -> None:
    """Nothing, where all logits (B, K, \\*S) are finite.

    Raises:
        NonFinite: naming the network, the cases by their place in the batch, and the weight that is not finite, if one is.
    """
    logits = logits.detach()
    if bool(torch.isfinite(logits.sum())) or bool(torch.isfinite(logits).all()):
        return
    cases = (~torch.isfinite(logits)).flatten(1).any(1).nonzero().flatten().tolist()
    raise NonFinite(not_finite(network, f"for case {', '.join(map(str, cases))} of the batch (counted from 0)"), cases)


def not_finite(network: Any, where: str) -> str:
    """Words for logits that are NaN or infinite."""
    weight = bad_weight(network)
    half = precision(network) is torch.float16
    remedy = "look at the image and at the layer that overflows; a score of such logits means nothing"
    if weight is not None:
        remedy = f"its weight {weight!r} is not finite: the training diverged, load another checkpoint"
    elif half:
        remedy = "float16 overflows above 65504: keep the network in float32 or bfloat16"
    return f"{name_of(network)} gives NaN or infinite logits {where}; {remedy}"


def bad_weight(network: Any) -> str | None:
    """The name of the first parameter or buffer that holds NaN or infinity."""
    if not isinstance(network, nn.Module):
        return None
    every = itertools.chain(network.named_parameters(), network.named_buffers())
    return next((name for name, x in every if x.is_floating_point() and not bool(torch.isfinite(x).all())), None)


def _deployed_head(out: Any, x: Tensor, name: str) -> Tensor:
    if isinstance(out, Mapping):
        raise ValueError(
            f"{name} returned a dictionary with {', '.join(map(str, out))}; wrap it in a network that returns the logits of the "
            "deployed entry"
        )
    out = out[0] if isinstance(out, (tuple, list)) and out else out
    if isinstance(out, Tensor) and out.ndim == x.ndim + 1:
        raise ValueError(
            f"{name} returned several heads in one tensor, {tuple(out.shape)} for images {tuple(x.shape)} (deep supervision in "
            "training mode?); wrap it in a network that returns the deployed head, (B, K, *S)"
        )
    if not isinstance(out, Tensor) or out.ndim != x.ndim or len(out) != len(x):
        raise ValueError(
            f"{name} returned {type(out).__name__} of shape {tuple(getattr(out, 'shape', ()))} "
            f"for images {tuple(x.shape)}; a victim must return logits (B, K, *S)"
        )
    if out.is_complex():
        raise ValueError(f"{name} returned complex numbers; a victim must return real logits, their magnitude or real part")
    return out


def why_not(network: Any, x: Tensor, message: str) -> str | None:
    """What an error of a network that was given ``x`` means, and what helps; ``None`` for one that speaks of something else."""
    name, shape, lines = name_of(network), tuple(x.shape), message.strip().splitlines() or [""]
    first = lines[-1 if "TorchScript" in lines[0] else 0].removeprefix("RuntimeError: ")
    if found := CHANNELS.search(message):
        return (
            f"{name} takes {found[1]} channels, the images {shape} have {found[2]}; give as many as it was trained on, in front of "
            "the other axes"
        )
    if CUT.search(message):
        return no_gradient(network, first)
    if PRECISION.search(message):
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters()} if isinstance(network, nn.Module) else ())
        return (
            f"{name} with weights in {', '.join(kinds) or 'a frozen precision'} cannot compute on {x.device.type} ({first}); "
            "bring all of it to one precision that is known there: network.float()"
        )
    if AXES.search(message):
        return (
            f"{name} takes images of another number of axes than {shape}, cases and channels in front ({first}); give each case "
            "with its channels in front and nothing before them, and, of volumes for a network of planes, MONAI's SliceInferer"
        )
    if SIZE.search(message):
        return (
            f"{name} cannot take images of size {' x '.join(map(str, shape[2:]))} (it was given {shape}: {first}); its strides ask "
            "for sizes that they divide: pad (MONAI's DivisiblePadd) or resize the images, or give an inferer with windows of a "
            "size that it takes"
        )
    return None


def unwrap(network: Any) -> Any:
    """The network inside ``DataParallel`` or ``DistributedDataParallel``; anything else as it is."""
    while isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        network = network.module
    return network
