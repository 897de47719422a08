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

_ARRAYS: Any = getattr(np, "_core", None) or np.core
_KINDS = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType") and name != "ObjectDType"]
# numpy's numbers and arrays, under the names that they are pickled with before and since its version 2
SAFE: list[Any] = [torch.device, np.dtype, np.ndarray, *_KINDS, _ARRAYS.multiarray.scalar, _ARRAYS.multiarray._reconstruct]
SAFE += [(getattr(_ARRAYS.multiarray, n), f"numpy.core.multiarray.{n}") for n in ("scalar", "_reconstruct")]
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
        wanted = _wanted(path)
        first = f"it asks for {', '.join(wanted)}" if wanted else (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path} cannot be loaded as plain weights ({first}); if you trust its maker, say --trust, which runs what the "
            "file brings"
        ) from error


def _wanted(path: str) -> list[str]:
    """The names that a file asks for beyond what is safe; none where they cannot be told."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # files without the header of torch.save
        return []
    safe = {a[1] if isinstance(a, tuple) else f"{a.__module__}.{a.__name__}" for a in SAFE}
    return sorted(set(names) - safe)


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
    for parameter in network.parameters():
        if not parameter.is_leaf:  # of a copy of a scripted network
            parameter.detach_()
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
