"""What kind of model was given, and the reader for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from monai_advdef.audit.module import Given, read_module
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.bundle import bundles
from monai_advdef.errors import DataError, nearest

SUFFIXES = (".yaml", ".yml", ".json")


def read_model(model: Any, options: AuditOptions, cases: Sequence[Mapping[str, Any]] | None = None) -> Reading:
    """Read any model: a network (``Given`` or as it is), or the path of a bundle, an nnU-Net folder or a TorchScript file.

    Args:
        cases: of a network; a path's are found in the data folder.

    Raises:
        DataError: none of these; what a reader misses.
    """
    if isinstance(model, (nn.Module, Given)):
        _refuse(options, "a network from Python", "checkpoint", "overrides", "images")
        return read_module(model, cases, options)
    path = _existing(model)
    if path.is_dir() and (path / "plans.json").is_file() and (path / "dataset.json").is_file():
        from monai_advdef.audit.nnunet import read_nnunet

        _refuse(options, "an nnU-Net folder", "checkpoint", "overrides", "classes", "activation")
        return read_nnunet(path, options)
    if path.is_file() and path.suffix.lower() not in (".zip",):
        from monai_advdef.audit.torchscript import read_torchscript

        _refuse(options, "a TorchScript file", "checkpoint")
        return read_torchscript(path, options)
    if (own := _ours(path, options)) is not None:
        return own
    from monai_advdef.audit.bundles import read_bundle

    return read_bundle(path, options)


def _refuse(options: AuditOptions, kind: str, *names: str) -> None:
    """Options that a kind of model does not take would otherwise be passed over without a word."""
    for name in names:
        if getattr(options, name):
            called = "set" if name == "overrides" else name
            raise DataError(f"--{called} does nothing here: {kind} says that itself; leave it away")


def _existing(model: Any) -> Path:
    if not isinstance(model, (str, os.PathLike)):
        raise DataError(
            f"a model is a network or the path of one, got a {type(model).__name__}; give a bundle's folder, for example"
        )
    path = Path(model).expanduser()
    if not path.exists():
        known = bundles()
        if str(model) in known:
            return known[str(model)]
        raise DataError(f"{path}: there is no such file or folder; {nearest(str(model), known)}")
    return path.resolve()


def _ours(path: Path, options: AuditOptions) -> Reading | None:
    """A bundle in our dialect (its configuration says what an attacker may do) runs as it is."""
    configs = path / "configs"
    found = [f for name in ("train", "evaluate") for f in (configs / f"{name}{s}" for s in SUFFIXES) if f.is_file()]
    if len(found) != 2:
        return None
    config = ConfigParser.load_config_files([str(f) for f in found])
    if not isinstance(config, dict) or "threat_def" not in config or "record_def" not in config:
        return None
    reading = Reading(name=path.name, kind="monai_advdef bundle", root=path, files=found)
    reading.tell("images", "in image units up to the network, as its threat_def says", f"threat_def in {found[0].name}")
    _refuse(options, "a bundle with a threat_def", "classes", "activation")
    for name in options.settings:
        first = name.partition("::")[0]
        if first not in config:
            raise DataError(f"set {name}: {found[0].name} has no item {first!r}; {nearest(first, config)}")
    weights = Path(options.checkpoint or path / "models" / "model.pt").expanduser().resolve()
    if weights.name != "model.pt":
        raise DataError(f"checkpoint {weights}: this bundle loads a model.pt; give one of that name")
    if not weights.is_file():
        raise DataError(f"{weights}: no such weights; train the bundle first, or name them with --checkpoint")
    reading.tell("weights", weights.name, "given" if options.checkpoint else "models/")
    reading.overlay = {"ckpt_dir": str(weights.parent)}
    for option, item in (("images", "images"), ("labels", "masks")):
        if given := list(getattr(options, option)):
            if item not in config:
                raise DataError(f"--{option}: {found[0].name} has no item {item!r}; give a folder in the layout of the bundle")
            reading.overlay[item] = given
    return reading
