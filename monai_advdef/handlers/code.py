"""What a function or a class does, as plain parts: its code, its defaults and what it reads from outside."""

from __future__ import annotations

import dis
import io
import re
import sys
import types
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

_OF_CLASSES = frozenset(
    "__dict__ __weakref__ __doc__ __module__ __annotations__ __slots__ __qualname__ __firstlineno__ __static_attributes__ _abc_impl "
    "__abstractmethods__ __dataclass_fields__ __dataclass_params__ __match_args__ __orig_bases__ __parameters__ __type_params__ "
    "__annotate_func__ __annotations_cache__".split()
)
_REFERENCES = "__local_refs"  # where MONAI's parser keeps what the expressions of a configuration refer to
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
_MANGLED = re.compile(r"[./]?___torch_mangle_\d+")


@cache
def installed(module: str | None) -> bool:
    """Whether a module belongs to Python, to this package or to one that is installed: its name then says what it does.

    Installed is what lies in ``site-packages``, or, as ``pip install --target`` leaves it, beside the notes of an installer; a
    project that is edited where it stands has its notes elsewhere.
    """
    top = (module or "__main__").split(".")[0]
    if top in sys.stdlib_module_names and top != "__main__" or top == __name__.split(".")[0]:
        return True
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return False
    places = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    folders = [Path(place).parent for place in places]
    return any({"site-packages", "dist-packages"} & set(f.parts) or next(f.glob("*.dist-info"), None) for f in folders)


def named(value: Any) -> str | None:
    """The full name of a function or class of an installed module that is found under it, else ``None``."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if "<" in name or not module or not installed(module):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None


def function_parts(function: types.FunctionType) -> Any:
    """What tells a function from another one: its name where it is installed, else its code and all that the code reads."""
    if name := named(function):
        return name
    closure = [_content(cell) for cell in function.__closure__ or ()]
    own = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
    outside = dict(_read_from(function.__globals__, function.__code__))
    return ["function", function.__code__, function.__defaults__, function.__kwdefaults__, closure, outside, own]


def class_parts(kind: type) -> Any:
    """What tells a class from another one: its name where it is installed, else its bases and everything defined in it."""
    if name := named(kind):
        return name
    bases = [base for base in kind.__bases__ if base is not object]
    return ["class", kind.__qualname__, bases, {name: item for name, item in vars(kind).items() if name not in _OF_CLASSES}]


def code_parts(code: types.CodeType) -> Any:
    """What a piece of code does; not where it stands, nor how its variables are called."""
    return ["code", code.co_code, code.co_consts, code.co_names, code.co_freevars, code.co_flags]


def script_parts(script: Any) -> Any:
    """What tells a scripted or traced network (or function) from another one: all that its file holds, weights and constants, too.

    The numbers that torch gives to types as they are made, the device and the mode of training count for nothing.
    """
    file = io.BytesIO(script.save_to_buffer())
    loaded = torch.jit.load(file, map_location="cpu")
    for module in loaded.modules():
        if hasattr(module, "training"):
            module.train(False)
    with zipfile.ZipFile(io.BytesIO(loaded.save_to_buffer())) as parts:
        names = sorted(name for name in parts.namelist() if not name.endswith((".debug_pkl", "/serialization_id")))
        held = {name.partition("/")[2]: parts.read(name) for name in names}
    return ["script", {_MANGLED.sub("", name): _MANGLED.sub("", raw.decode("latin-1")) for name, raw in held.items()}]


def _read_from(known: dict[str, Any], code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """The global values that a piece of code, or one inside it, reads."""
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname not in _GLOBALS or name not in known:
            continue
        value = known[name]
        if name == _REFERENCES:
            yield name, {key: value[key] for key in code.co_consts if isinstance(key, str) and key in value}
            continue
        yield name, value
        if isinstance(value, types.ModuleType) and not installed(value.__name__):  # what is set in it may not stand in its file
            yield f"{name}.", {key: getattr(value, key) for key in code.co_names if hasattr(value, key)}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from ((f"{name} inside", value) for name, value in _read_from(known, inner))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return "empty"
