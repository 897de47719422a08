"""The weights of a stranger's network, loaded without running what a file brings."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_advdef.errors import DataError
from monai_advdef.logits import name_of, unwrap

SAFE: list[Any] = [np.dtype, *{type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "bool")}, torch.device]
SAFE += [getattr(np, "_core", getattr(np, "core", None)).multiarray.scalar]  # type: ignore[union-attr]
WRAPPERS = ("module.", "_orig_mod.")


def load_weights(path: str, *, trust: bool = False) -> Any:
    """What a file of weights holds, on the CPU.

    Args:
        trust: unpickle everything, which may run any code.

    Raises:
        DataError: no such file; it is none of weights, or holds objects that are not tensors, numbers or text.
    """
    try:
        with torch.serialization.safe_globals(SAFE):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of weights; put it there, or name the checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} cannot be loaded as plain weights ({first}); if you trust its maker, say --trust, which runs what the "
            "file brings"
        ) from error


def loaded_network(network: nn.Module, checkpoint: Mapping[str, Any] | None = None, device: Any = "cpu") -> nn.Module:
    """A network with its weights, in evaluation mode on its device.

    Args:
        checkpoint: ``path``, ``key`` (where in the file the weights are, ``"model"`` or ``"state::ema"``; empty: the file is the
            weights) and ``trust``; ``None``: the network brings them.

    Raises:
        DataError: weights that are not there, or of another network; naming file and the first names that do not fit.
    """
    network = unwrap(network)
    if checkpoint is not None:
        path = str(checkpoint["path"])
        held = load_weights(path, trust=bool(checkpoint.get("trust", False)))
        for key in filter(None, str(checkpoint.get("key") or "").split("::")):
            if not isinstance(held, Mapping) or key not in held:
                known = ", ".join(map(str, held))[:200] if isinstance(held, Mapping) else type(held).__name__
                raise DataError(f"{path} has no {key!r} (it has {known}); name the key of the weights")
            held = held[key]
        _put(network, held, path)
    return network.to(device).eval()


def _put(network: nn.Module, held: Any, path: str) -> None:
    if isinstance(held, nn.Module):
        held = held.state_dict()
    if not isinstance(held, Mapping):
        raise DataError(f"{path} holds a {type(held).__name__}, not weights by name; name the key of the weights")
    state = {str(name): value for name, value in held.items()}
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        told = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{path} holds weights of another network than {name_of(network)}: {told}") from error
    if missing or unexpected:
        off = [f"{len(names)} {what} ({names[0]}, ...)" for names, what in ((missing, "missing"), (unexpected, "unknown")) if names]
        raise DataError(f"{path} holds weights of another network than {name_of(network)}: {' and '.join(off)}")
