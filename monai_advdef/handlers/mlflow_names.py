"""Names and values as MLflow takes them, for classes and options may be called anything."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from monai.utils import flatten_dict

LONGEST_NAME, LONGEST_VALUE = 250, 6000  # characters, MLflow's limits
_NOT_ALLOWED = re.compile(r"[^\w.\- :/]+")
_SAID = str.maketrans({"<": "lt ", ">": "gt ", "≤": "le ", "≥": "ge "})  # sizes, which would all become the same


def valid_names(names: Iterable[str]) -> dict[str, str]:
    """For each name one that MLflow takes: letters of any script, digits, spaces and ``_ - . : /``, at most 250, no two alike.

    ``<`` is said as ``lt``; other characters become ``_``. Where two names would become one, those that were changed carry a few
    digits of a digest.
    """
    found = {name: _allowed(name) for name in dict.fromkeys(map(str, names))}
    taken = list(found.values())
    return {name: new if name == new or taken.count(new) == 1 else _shortened(new, name, always=True) for name, new in found.items()}


def experiment_name(name: object) -> str:
    """The name of an experiment as MLflow takes it: any text that is not empty and not too long."""
    text = str(name).strip()
    return _shortened(text, text) or "Default"


def _allowed(name: str) -> str:
    plain = _NOT_ALLOWED.sub("_", unicodedata.normalize("NFC", name).translate(_SAID)).strip() or "_"
    parts = [part if part.strip(".") else "_" * max(len(part), 1) for part in plain.split("/")]  # no '..', nothing between slashes
    return _shortened(posixpath.normpath("/".join(parts)), name)


def _shortened(new: str, name: str, *, always: bool = False) -> str:
    """``new`` with a digest of ``name`` before its last 60 characters, which tell the metric, where it is too long."""
    if len(new) <= LONGEST_NAME and not always:
        return new
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    if len(new) + 9 <= LONGEST_NAME:
        return f"{new}-{digest}"
    return f"{new[: LONGEST_NAME - 70]}-{digest}-{new[-60:]}"


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by valid name: scalars of any kind, vectors entry by entry; what is no number is left out."""
    found: dict[str, float] = {}
    for name, value in flatten_dict(dict(metrics)).items():
        if value is None:
            continue
        try:
            entries = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=float).ravel()
        except (TypeError, ValueError):
            continue
        found |= {name: float(entries[0])} if len(entries) == 1 else {f"{name}_{i}": float(v) for i, v in enumerate(entries)}
    names = valid_names(found)
    return {names[str(name)]: value for name, value in found.items()}


def texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by valid name, their values cut where they are too long."""
    names = valid_names(parameters)
    return {names[str(name)]: _cut(str(value)) for name, value in parameters.items()}


def _cut(value: str) -> str:
    if len(value) <= LONGEST_VALUE:
        return value
    end = f" ... ({len(value)} characters)"
    return value[: LONGEST_VALUE - len(end)] + end


def batches(entries: Mapping[str, Any], size: int) -> Iterable[dict[str, Any]]:
    """The entries, at most ``size`` at a time."""
    rest = iter(entries.items())
    while batch := dict(islice(rest, size)):
        yield batch
