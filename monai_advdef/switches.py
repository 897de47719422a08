"""Options as a person writes them: a command line hands over text where a number, a list or a truth value is meant, and numbers
where a folder is called 2018."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, TypeVar

from monai_advdef.errors import nearest

F = TypeVar("F", bound=Callable[..., Any])
NOTHING = ("none", "null")


def truth(name: str, value: Any) -> bool:
    """``true``/``false`` as YAML, Python and the command line write them; the last hands over the text, and any text counts as true.

    Raises:
        ValueError: another value, naming the option.
    """
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool_", "bool"):  # numpy's
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(f"{name} must be true or false, got {value!r}")


def path(name: str, value: Any) -> str:
    """A file or folder as text; ``~`` is the home folder, nothing (``None``, ``null``) the empty text.

    A whole number is the folder called so: the command line of a bundle reads ``--dataset_dir 2018`` as one. And ``::`` is ``#``
    where there is no file with the one: MONAI reads ``#`` in every text of a configuration as that.

    Raises:
        ValueError: another number, whose spelling is lost, or no path at all; naming the option and what to write.
    """
    if absent(value):
        return ""
    if isinstance(value, (str, os.PathLike)):
        found = os.path.expanduser(value)
        return found.replace("::", "#") if isinstance(value, str) and not os.path.exists(found) else found
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    kind = "the number" if isinstance(value, float) else f"a {type(value).__name__},"
    raise ValueError(
        f"{name} must be a file or a folder, but was read as {kind} {value!r}, and how it was spelt is lost; write ./ in front of "
        f"its name: --{name} ./NAME"
    )


def folder(name: str, value: Any) -> str:
    """A folder to write to, as :func:`path` reads it.

    Raises:
        ValueError: as there, and where it is empty: what is put below it would lie at the root of the disk.
    """
    found = path(name, value)
    if not found.strip():
        raise ValueError(f"{name} is empty, as where a variable of the shell is not set; give a folder, or . for this one")
    return found


def absent(value: Any) -> bool:
    """Whether nothing is given: ``None``, or how a command line writes it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in NOTHING)


def as_written(function: F) -> F:
    """A function (or constructor) whose arguments may be given as text, by what their annotations say.

    ``bool``: see :func:`truth`; ``int``, ``float``: a number; ``Sequence``, ``tuple``, ``list`` and ``dict``: what Python reads in
    brackets; ``os.PathLike``: see :func:`path`; beside ``None`` the words none and null. Other values pass as they are.

    Raises:
        ValueError: when called, a text that is none of what the annotation says; names the argument.
    """
    signature = inspect.signature(function)
    kinds = {p.name: _kinds(p.annotation) for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    kinds = {name: kind for name, kind in kinds.items() if kind & KNOWN}

    @functools.wraps(function)
    def written(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says in Python's own words what is missing
        for name in bound.arguments.keys() & kinds.keys():
            bound.arguments[name] = meant(name, bound.arguments[name], kinds[name])
        return function(*bound.args, **bound.kwargs)

    written.kinds = kinds  # type: ignore[attr-defined]
    return written  # type: ignore[return-value]


class AsWritten(type):
    """A dataclass made with this metaclass reads its fields as :func:`as_written` reads arguments."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        kinds = {field.name: _kinds(field.type) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in kwargs.keys() - kinds.keys():
            raise TypeError(f"{cls.__name__} has no argument {name!r}; {nearest(name, kinds)}")
        return super().__call__(*args, **{k: meant(k, v, kinds[k]) if k in kinds else v for k, v in kwargs.items()})


KNOWN = {"bool", "int", "float", "None", "Sequence", "tuple", "list", "dict", "Mapping", "PathLike"}


def meant(name: str, value: Any, kinds: set[str]) -> Any:
    """One value as its annotation, ``kinds``, wants it."""
    if value is None or ("None" in kinds and absent(value)):
        return None
    if "bool" in kinds and (isinstance(value, str) or not kinds & {"int", "float", "dict", "Mapping"}):
        return truth(name, value)
    if "PathLike" in kinds:
        return value if isinstance(value, PurePath) else path(name, value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text[:1] in ("[", "(", "{") and kinds & {"Sequence", "tuple", "list", "dict", "Mapping", "Any"}:
        try:
            return _literal(name, text)
        except ValueError:
            if "str" not in kinds:
                raise
            return value  # a pattern may begin with {case}
    if kinds & {"Sequence", "tuple", "list"} and not kinds & {"str", "int", "float", "Any"}:
        raise ValueError(f"{name} must be a list, got the text {text!r}; write it in brackets, as [{text}]")
    if kinds & {"int", "float"} and "str" not in kinds:
        return _number(name, text, whole="float" not in kinds)
    return value


def _kinds(annotation: Any) -> set[str]:
    """The names in an annotation, without their brackets and modules."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    flat, depth = "", 0
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        flat += sign if depth == 0 and sign != "]" else ""
    return {part.strip().rsplit(".", 1)[-1] for part in flat.split("|")}


def _literal(name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(f"{name} must be a list, as [8, 0, 0], got the text {text!r}") from None


def _number(name: str, text: str, *, whole: bool) -> int | float:
    for kind in (int,) if whole else (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    meaning, digits = ("whole number", "3") if whole else ("number", "0.5 or 1e-3")
    raise ValueError(f"{name} must be a {meaning}, got the text {text!r}; write it in digits, as {digits}")
