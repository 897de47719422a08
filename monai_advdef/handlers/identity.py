"""What a thing is: one digest of all that decides what it does, equal in every process, and never of a place in memory.

Values count by content, tensors by shape, type and entries, files by what they hold. A function counts by its code, its defaults and
what it reads from outside; an object by its class and its attributes; a network also by its structure. Of what is installed
(MONAI, torch, this package) the name is enough. Where a computation runs (its device, training mode) decides nothing, nor do the
attributes that a class names as ``fleeting``: what it knows of the case at hand.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import numbers
import os
import pickle
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch import Tensor, nn

from monai_advdef.handlers.code import class_parts, code_parts, function_parts, installed, script_parts
from monai_advdef.logits import unwrap

logger = logging.getLogger(__name__)
_OF_MODULES = frozenset(vars(nn.Module())) | {"_compiled_call_impl", "_is_torch_compile"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_BY_NAME: tuple[type, ...] = (types.BuiltinFunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType, np.ufunc)
_BY_NAME += (types.WrapperDescriptorType, types.MethodWrapperType)
_NOTHING = (weakref.ref, types.GetSetDescriptorType, types.MemberDescriptorType, torch.device)


class Unidentified(ValueError):
    """Something that cannot be told from another of its kind; the message names it and the remedy."""


def digest(*parts: bytes | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\0")
    return sha.hexdigest()[:16]


def tensor_bytes(x: Tensor) -> bytes:
    """Shape, type and contents."""
    return f"{tuple(x.shape)}{x.dtype}".encode() + _entries(x).tobytes()


def _entries(x: Tensor) -> np.ndarray:
    x = x.detach().cpu().contiguous()
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    return x.resolve_conj().resolve_neg().reshape(-1).view(torch.uint8).numpy()


def weights_hash(network: nn.Module) -> str:
    """A digest of every parameter and buffer by name; of a scripted network of all that its file holds."""
    network = bare(network)
    if isinstance(network, torch.jit.ScriptModule):
        return identity(network)
    state = network.state_dict()
    held = {name: tensor_bytes(value) if isinstance(value, Tensor) else identity(value) for name, value in state.items()}
    return digest(*(part for name in sorted(held) for part in (name, held[name])))


def bare(network: Any) -> Any:
    """The network inside wrappers that decide nothing: parallel ones, and that of ``torch.compile``."""
    while (inner := unwrap(getattr(network, "_orig_mod", network))) is not network:
        network = inner
    return network


def identity(*values: Any, without: Iterable[str] = ()) -> str:
    """Sixteen hexadecimal digits that are the same for the same things only. Attributes of the names ``without`` are passed over.

    Raises:
        Unidentified: a value, or something that it holds, can neither be looked into nor be written down.
    """
    walk = Walk(without)
    for value in values:
        walk.add(value)
    return walk.digest()


def structure(network: Any) -> str:
    """:func:`identity` of a network without its parameters and registered buffers (for these see :func:`weights_hash`)."""
    walk = Walk(weights=False)
    walk.add(bare(network))
    return walk.digest()


def known(what: str, digest_of: Callable[[], str]) -> str:
    """The digest, or, where something cannot be told from another of its kind, a word that is never given twice, and a warning."""
    try:
        return digest_of()
    except Unidentified as error:
        logger.warning("%s cannot be recognised again, so this evaluation is recorded as one of its own: %s", what, error)
        return f"unidentified {uuid.uuid4().hex[:16]}"


class Walk:
    """Adds one value after the other to a digest; an object that was met before counts by its number.

    Args:
        without: names of attributes that are passed over.
        weights: false passes over the entries of parameters and registered buffers.
    """

    def __init__(self, without: Iterable[str] = (), *, weights: bool = True) -> None:
        self.without, self.weights = frozenset(without), weights
        self._sha = hashlib.sha256()
        self._met: dict[int, tuple[int, Any]] = {}  # holds the objects, so that no place in memory is given twice

    def digest(self) -> str:
        """Of all that was added."""
        return self._sha.hexdigest()[:16]

    def note(self, *parts: bytes | str) -> None:
        """Text and bytes, each with its length."""
        for part in parts:
            raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            self._sha.update(len(raw).to_bytes(8, "big"))
            self._sha.update(raw)

    def add(self, value: Any) -> None:
        """One value and all that it holds."""
        if value is None or isinstance(value, (bool, types.EllipsisType, types.NotImplementedType, range, slice, torch.dtype)):
            self.note(type(value).__name__, repr(value))
        elif isinstance(value, Enum):
            self.note("enum", type(value).__qualname__, value.name)
        elif isinstance(value, numbers.Number):
            self.note("number", _number(value))
        elif isinstance(value, (bytes, bytearray)):
            self.note("bytes", bytes(value))
        elif isinstance(value, (str, os.PathLike)):
            self._add_text(os.fspath(value))
        elif isinstance(value, Tensor):
            self.note("array", f"{tuple(value.shape)}{value.dtype}")
            self._sha.update(_entries(value).data)  # without a copy
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.note("array", f"{value.shape}{value.dtype}")
            self._sha.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        elif type(value) in (tuple, frozenset):
            self._add_many(value)
        elif id(value) in self._met:
            self.note("met", str(self._met[id(value)][0]))
        else:
            self._met[id(value)] = len(self._met), value
            self._add_object(value)

    def _add_text(self, text: str | bytes) -> None:
        if isinstance(text, str) and os.sep in text and len(text) < 4096 and "\0" not in text and os.path.isfile(text):
            self.note("file", hashlib.sha256(Path(text).read_bytes()).digest())
        else:
            self.note("text", text)

    def _add_many(self, values: Any) -> None:
        if isinstance(values, Mapping):
            pairs = list(values.items())
            if all(isinstance(key, (str, int)) for key in values):
                pairs.sort(key=lambda pair: (str(type(pair[0])), str(pair[0])))
            self.note("mapping", str(len(pairs)))
            for pair in pairs:
                self.add(pair)
        elif isinstance(values, Set):
            self.note("set", *sorted(identity(item, without=self.without) for item in values))
        else:
            self.note("sequence", str(len(values)))
            for item in values:
                self.add(item)

    def _add_object(self, value: Any) -> None:
        if type(value) in (list, dict, set, types.MappingProxyType) or isinstance(value, np.ndarray):
            self._add_many(value.tolist() if isinstance(value, np.ndarray) else value)
        elif isinstance(value, _NOTHING) or type(value) is object:
            self.note(type(value).__name__)
        elif isinstance(value, types.ModuleType):
            self._add_module(value)
        elif isinstance(value, _BY_NAME):
            owner = getattr(value, "__self__", None)
            self.note("named", *(str(getattr(value, name, "")) for name in ("__module__", "__qualname__", "__name__")))
            self.add(None if isinstance(owner, types.ModuleType) else owner)
        elif isinstance(value, nn.Module) and not isinstance(value, torch.jit.ScriptModule):
            self._add_network(bare(value))
        else:
            parts = self._parts(value)
            self._add_instance(value) if parts is None else self.add(parts)

    def _parts(self, value: Any) -> Any:
        """What stands for a value of a kind that Python or torch define; ``None`` for any other."""
        if isinstance(value, type):
            return class_parts(value)
        if isinstance(value, types.FunctionType):
            return function_parts(value)
        if isinstance(value, types.CodeType):
            return code_parts(value)
        if isinstance(value, functools.partial):
            return ["partial", value.func, value.args, value.keywords]
        if isinstance(value, types.MethodType):
            return ["method", value.__func__, value.__self__]
        if isinstance(value, (staticmethod, classmethod)):
            return [type(value).__name__, value.__func__]
        if isinstance(value, property):
            return ["property", value.fget, value.fset]
        if isinstance(value, torch.Generator):
            return ["generator", value.get_state()]
        if isinstance(value, np.random.RandomState):
            return ["generator", value.get_state(legacy=False)]
        if isinstance(value, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
            return script_parts(value)
        return None

    def _add_instance(self, value: Any) -> None:
        """An object by its class, what it contains and its attributes."""
        kind = type(value)
        held = {name: getattr(value, name) for base in kind.__mro__ for name in _slots(base) if hasattr(value, name)}
        held |= getattr(value, "__dict__", {})
        if isinstance(value, functools._lru_cache_wrapper):
            held = {"__wrapped__": value.__wrapped__}
        if isinstance(value, Randomizable):
            held.pop("R", None)  # the stream it draws from, if it draws
        self.add(kind)
        if isinstance(value, (Sequence, Mapping, Set)):
            self._add_many(value)
        if held or "__init__" in vars(kind) or not installed(kind.__module__):
            self._add_many({name: item for name, item in held.items() if name not in self._passed_over(kind)})
            return
        try:
            self.note("pickled", pickle.dumps(value, protocol=4))
        except Exception as error:
            raise Unidentified(
                f"a {kind.__module__}.{kind.__qualname__} cannot be told from another of its kind ({error}); give a module, a "
                "function, or an object whose attributes are plain values and tensors"
            ) from error

    def _passed_over(self, kind: type) -> frozenset[str]:
        return self.without | frozenset(getattr(kind, "fleeting", ()))

    def _add_network(self, module: nn.Module) -> None:
        made = {name.rpartition("_")[0] for name in module._parameters if name.endswith(("_orig", "_g"))}  # anew by a hook
        own = {k: v for k, v in vars(module).items() if k not in _OF_MODULES | self._passed_over(type(module)) | made}
        state = {**module._parameters, **module._buffers}
        self.add(["network", type(module), own, state if self.weights else sorted(state)])
        self.add([list(getattr(module, name).values()) for name in _HOOKS])
        for name, child in module._modules.items():  # in the order in which a Sequential calls them
            self.note("child", name)
            self.add(child)
        self.note("end")

    def _add_module(self, module: types.ModuleType) -> None:
        file = getattr(module, "__file__", None)
        self.note("module", module.__name__)
        if not installed(module.__name__) and file and os.path.isfile(file):
            self.note(hashlib.sha256(Path(file).read_bytes()).digest())


def _number(value: Any) -> str:
    if isinstance(value, numbers.Real):
        whole = isinstance(value, numbers.Integral) or float(value).is_integer()
        return str(int(float(value)) if not isinstance(value, numbers.Integral) else int(value)) if whole else repr(float(value))
    return repr(complex(value))


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(name for name in slots if name not in ("__dict__", "__weakref__"))
