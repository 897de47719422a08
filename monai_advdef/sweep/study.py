"""What a sweep is to run: models, data sections, attacks and defences out of one file, read strictly."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monai_advdef.bundle import bundles, workflows
from monai_advdef.errors import DataError, nearest, reading
from monai_advdef.switches import truth

STUDY = ("name", "output_dir", "threads", "checks", "models", "data", "attacks", "defenses", "overlays")
MODEL = ("model", "checkpoint", "settings", "overlays", "classes", "activation", "unit", "value_range", "trust", "registered")
DATA = ("dataset_dir", "section", "images", "labels", "limit", "settings")
ATTACK = ("name", "overlay", "options", "eps", "checks")
DEFENSE = ("name", "overlay", "options")
NOTHING = {"attacks": "clean", "defenses": "none"}
PATHS = ("dataset_dir", "checkpoint")


@dataclass(frozen=True)
class Part:
    """An attack or a defence: its name in tables, overlays in the order in which they are listed, and what is told them."""

    name: str
    overlays: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    checks: bool = False


@dataclass(frozen=True)
class Study:
    """A study, as its file says.

    Args:
        name: of the study, and of its experiment in MLflow.
        output_dir: where everything goes; empty: where the command says.
        threads: of the CPU for each cell, however many cells run at once: sums of other lengths end in other digits.
        models: options by name, those of ``MODEL``.
        data: options by name, those of ``DATA``.
        attacks, defenses: what is tried, ``clean`` and ``none`` among them where they are asked for.
        overlays: further overlays of every cell of a bundle.
    """

    name: str
    output_dir: str
    threads: int
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    attacks: tuple[Part, ...]
    defenses: tuple[Part, ...]
    overlays: tuple[str, ...] = ()


def read_study(path: str | os.PathLike[str]) -> Study:
    """The study of a YAML file; names of files in it are looked for beside it.

    Raises:
        DataError: the file is not there or no YAML; a key that is unknown (with the nearest known one), missing, given twice or of
            another kind than it must be. Names the file, the field, its value and the remedy.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{file}: there is no such study; give a YAML file, as those in workflows/sweeps")
    with reading(file, "cannot be read as YAML", "mend that line"):
        told = yaml.load(file.read_text(encoding="utf-8"), _Strict)  # noqa: S506  # a SafeLoader
    try:
        return _study(told, file)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


class _Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value!r} stands twice, in line {key.start_mark.line + 1} again; leave one of them away")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _study(told: Any, file: Path) -> Study:
    told = known("the study", told, STUDY)
    for name in ("models", "attacks"):
        if not told.get(name):
            raise DataError(f"{name} is missing or empty; list what is to be run under {name}:")
    threads = told.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise DataError(f"threads must be a whole number from 1 up, got {threads!r}")
    checks = _truth("checks", told.get("checks", True))
    base = file.resolve().parent
    models = {name: _model(name, of, base) for name, of in _named("models", told["models"], base).items()}
    data = {name: _data(name, of, base) for name, of in _named("data", told.get("data") or {"test": {}}, base).items()}
    parts = {
        kind: tuple(made for given in _listed(kind, told.get(kind, [NOTHING[kind]])) for made in _parts(kind, given, base, checks))
        for kind in ("attacks", "defenses")
    }
    for kind, many in parts.items():
        _once(kind, [part.name for part in many])
    overlays = tuple(_overlay("overlays", name, base) for name in _listed("overlays", told.get("overlays", [])))
    output = _text("output_dir", told.get("output_dir", ""))
    return Study(
        name=_text("name", told.get("name", file.stem)),
        output_dir=_place(output, base) if output else "",
        threads=threads,
        models=models,
        data=data,
        attacks=parts["attacks"],
        defenses=parts["defenses"],
        overlays=overlays,
    )


def known(where: str, given: Any, keys: Sequence[str]) -> dict[str, Any]:
    """A mapping whose keys are all among ``keys``.

    Raises:
        DataError: it is none, or has another key.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{where} must be a mapping of {', '.join(keys)}, got {given!r}")
    for name in given:
        if name not in keys:
            raise DataError(f"{where} has no key {name!r}; {nearest(str(name), keys)}")
    return dict(given)


def _named(kind: str, given: Any, base: Path) -> dict[str, Any]:
    """Models or data by name, from a mapping, or from a list of paths, each called by its last part."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence):
        names = [Path(_text(f"an entry of {kind}", entry)).name for entry in given]
        _once(kind, names)
        return dict(zip(names, given))
    if not isinstance(given, Mapping):
        raise DataError(f"{kind} must be a mapping from names to what they stand for, or a list, got {given!r}")
    return {_text(f"a name in {kind}", name): of for name, of in given.items()}


def _once(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if list(names).count(name) > 1:
            raise DataError(f"{kind} has two of the name {name!r}; give each a name of its own, with name:")


def _model(name: str, given: Any, base: Path) -> dict[str, Any]:
    where = f"models: {name}"
    told = known(where, {"model": given} if isinstance(given, str) else given, MODEL)
    if not told.get("model"):
        raise DataError(f"{where} names no model; give the folder of a bundle or of nnU-Net, or a TorchScript file, as model:")
    told["model"] = told["model"] if told["model"] in bundles() else _place(_text(f"{where}: model", told["model"]), base)
    if told.get("registered") and not re.fullmatch(r".+/[0-9]+", _text(f"{where}: registered", told["registered"])):
        raise DataError(f"{where}: registered must be NAME/VERSION of MLflow's registry, as skin/3, got {told['registered']!r}")
    told["overlays"] = [_overlay(f"{where}: overlays", one, base) for one in _listed("overlays", told.get("overlays", []))]
    return _common(where, told, base)


def _data(name: str, given: Any, base: Path) -> dict[str, Any]:
    where = f"data: {name}"
    told = known(where, {"dataset_dir": given} if isinstance(given, str) else given or {}, DATA)
    limit = told.get("limit", 0)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise DataError(f"{where}: limit must be a number of cases, or 0 for all, got {limit!r}")
    return _common(where, told, base)


def _common(where: str, told: dict[str, Any], base: Path) -> dict[str, Any]:
    for name in PATHS:
        if told.get(name):
            told[name] = _place(_text(f"{where}: {name}", told[name]), base)
            if not Path(told[name]).exists():
                raise DataError(f"{where}: {name} {told[name]} is not there; mend the path (it is looked for beside the study)")
    settings = told.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise DataError(f"{where}: settings must be a mapping of items of the configuration, got {settings!r}")
    told["settings"] = dict(settings)
    if "trust" in told:
        told["trust"] = _truth(f"{where}: trust", told["trust"])
    return told


def _parts(kind: str, given: Any, base: Path, checks: bool) -> list[Part]:
    """One entry of ``attacks`` or ``defenses``; of several ``eps`` one each."""
    none = NOTHING[kind]
    if given == none:
        return [Part(none)]
    keys = ATTACK if kind == "attacks" else DEFENSE
    told = known(f"an entry of {kind}", {"overlay": given} if isinstance(given, str) else given, keys)
    if not told.get("overlay"):
        raise DataError(f"an entry of {kind} has no overlay: {told}; name one, as in overlay: {kind}/..., or write {none}")
    overlays = tuple(_overlay(kind, one, base) for one in _listed("overlay", told["overlay"]))
    options = told.get("options") or {}
    if not isinstance(options, Mapping):
        raise DataError(f"{kind}: options of {told['overlay']} must be a mapping, got {options!r}")
    name = _text(f"name in {kind}", told.get("name") or " + ".join(Path(one).stem for one in overlays))
    checks = _truth(f"{kind}: checks of {name}", told.get("checks", checks)) and kind == "attacks"
    if told.get("eps") is None:
        return [Part(name, overlays, dict(options), checks)]
    return [
        Part(f"{name} eps {size:g}", overlays, {**options, "eps": size}, checks) for size in _sizes(f"{kind}: {name}", told["eps"])
    ]


def _sizes(where: str, given: Any) -> list[float]:
    sizes = given if isinstance(given, list) else [given]
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not size > 0:
            raise DataError(f"{where}: eps must be above 0 in units of the image, or a list of such, got {given!r}")
    return sizes


def _overlay(where: str, given: Any, base: Path) -> str:
    """The name of an overlay as :mod:`monai_advdef.study` takes it; a file by its path."""
    name = _text(where, given)
    if name in workflows() or name.startswith("configs/"):
        return name
    file = Path(_place(name, base))
    if file.is_file():
        return str(file)
    raise DataError(f"{where}: there is no overlay {name!r}, and no file {file}; {nearest(name, workflows())}")


def _listed(kind: str, given: Any) -> list[Any]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence):
        raise DataError(f"{kind} must be a list, got {given!r}")
    return list(given)


def _text(where: str, given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise DataError(f"{where} must be a text, got {given!r}; put it in quotes")
    return str(given)


def _truth(where: str, given: Any) -> bool:
    try:
        return truth(where, given)
    except ValueError as error:
        raise DataError(str(error)) from error


def _place(text: str, base: Path) -> str:
    """A path of the study: ``~`` and ``$VARIABLES`` are filled in, and what is relative lies beside the file."""
    return str((base / os.path.expandvars(os.path.expanduser(text))).resolve())
