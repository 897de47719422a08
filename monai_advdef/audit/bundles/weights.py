"""The weights of a bundle: which file, which of its parts, and whether they fit the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.audit.bundles.chain import target
from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.audit.weights import WRAPPERS as STRIPPED
from monai_advdef.audit.weights import load_weights
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError

ENDINGS = (".pt", ".pth", ".ckpt")
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.", "_model.", "ema_model.")
NESTS = ("model", "state_dict", "network", "net", "model_state_dict", "network_weights", "ema", "ema_model", "weights")


@dataclass(frozen=True)
class Weights:
    """A checkpoint: its file, the key of the part that is the network's (``::`` between levels), and where this was read."""

    path: Path
    key: str
    source: str
    notes: tuple[str, ...] = ()

    def socket(self, trust: bool) -> dict[str, Any]:
        """As the audit loads it."""
        return {"path": str(self.path), "key": self.key, **({"trust": True} if trust else {})}


def loaders(config: Config, evaluator: str) -> list[str]:
    """The ids of the checkpoint loaders: of the evaluator's handlers first, then of any other place."""
    handlers = config.follow(f"{evaluator}{SEP}val_handlers")
    near = [f"{handlers}{SEP}{i}" for i, _ in enumerate(config.get(handlers) or ()) if isinstance(config.get(handlers), list)]
    near = [config.follow(id) for id in near]
    return [id for id in dict.fromkeys([*near, *_everywhere(config, evaluator)]) if target(config.get(id)) == "CheckpointLoader"]


def _everywhere(config: Config, evaluator: str) -> list[str]:
    tops = [str(k) for k, v in config.tree.items() if isinstance(v, dict)]
    lists = [f"{k}{SEP}{i}" for k, v in config.tree.items() if isinstance(v, list) for i in range(len(v))]
    scope = evaluator.rsplit(SEP, 1)[0] if SEP in evaluator else ""
    inner = [f"{scope}{SEP}{k}" for k in config.get(scope, {})] if scope else []
    return [*inner, *tops, *lists]


def find_weights(config: Config, evaluator: str) -> tuple[Path, str, str, list[str]]:
    """File, wanted key, source and notes of the checkpoint that a configuration loads or that lies in the bundle.

    Raises:
        DataError: none, or several of which nothing says which.
    """
    notes: list[str] = []
    told, key, source = None, "", "models/"
    for id in loaders(config, evaluator):
        if str(config.get(f"{id}{SEP}_disabled_", "")).lower() == "true":
            continue
        told, source = Path(str(config.value(f"{id}{SEP}load_path"))), config.source(id)
        key = next(iter(config.get(f"{id}{SEP}load_dict") or {"": None}))
        break
    else:
        saver = _saver(config)
        if saver:
            told, key, source = saver
    if told is not None:
        told = told if told.is_absolute() else config.root / told
        if told.is_file():
            return told, str(key), source, notes
    there = sorted(p for p in (config.root / "models").rglob("*") if p.suffix.lower() in ENDINGS)
    likely = [p for p in there if told is not None and p.name == told.name] or [p for p in there if p.stem == "model"] or there
    if len(likely) == 1:
        if told is not None:
            notes.append(
                f"{source} loads {told.name}, which is not there; the weights are those of {likely[0].name}, the one that is"
            )
        return likely[0], str(key), source, notes
    remedy = "put the file there" if there else "fetch the weights (large_files.yml of the bundle says where they are) into models/"
    held = some([p.name for p in there]) or "no *.pt"
    raise DataError(f"{config.root}: no weights; {source} names {told.name if told else 'none'}, and models/ holds {held}; {remedy}")


def _saver(config: Config) -> tuple[Path, str, str] | None:
    """What a training file saves its best weights as."""
    for id in ("validate::handlers", "train::handlers", "handlers"):
        handlers = config.get(id)
        for i, item in enumerate(handlers if isinstance(handlers, list) else ()):
            if target(item) == "CheckpointSaver" and "save_dir" in item:
                at = f"{id}{SEP}{i}"
                name = item.get("key_metric_filename") or item.get("final_filename") or "model.pt"
                folder = Path(str(config.value(f"{at}{SEP}save_dir")))
                return folder / str(name), next(iter(item.get("save_dict") or {"": None})), config.source(at)
    return None


def read_weights(path: Path, wanted: str, network: nn.Module, source: str, options: AuditOptions) -> Weights:
    """The part of a checkpoint that fits the network; where its names have to be changed it is written anew below ``output_dir``.

    Raises:
        DataError: nothing in it fits, with what differs.
    """
    held = load_weights(str(path), trust=options.trust)
    if isinstance(held, nn.Module):
        return _written(held.state_dict(), path, source, options, "the file holds a whole network, of which the weights were taken")
    key, state = _part(held, wanted, path)
    names = network.state_dict()
    if state.keys() == names.keys():
        _require_shapes(state, names, path)
        return Weights(path, key, source)
    for wrapper in WRAPPERS:
        bare = {k.removeprefix(wrapper): v for k, v in state.items() if k.startswith(wrapper)}
        if bare.keys() == names.keys():
            _require_shapes(bare, names, path)
            if wrapper in STRIPPED:
                return Weights(
                    path, key, source, (f"{path.name}: the names of the weights begin with {wrapper!r}, which is left out",)
                )
            return _written(bare, path, source, options, f"the names of the weights begin with {wrapper!r}, which was left out")
    missing, extra = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    raise DataError(
        f"{path} does not fit the network of {source}: {len(missing)} of its {len(names)} weights are not in it "
        f"({some(missing, 3) or 'none'}), {len(extra)} of it are not the network's ({some(extra, 3) or 'none'}); take the "
        "weights that belong to this configuration"
    )


def _part(held: Any, wanted: str, path: Path) -> tuple[str, dict[str, Tensor]]:
    """The weights within what a checkpoint holds, and their key."""
    if not isinstance(held, Mapping):
        raise DataError(f"{path} holds a {type(held).__name__}, not weights by their names; fetch it again")
    for name in dict.fromkeys((wanted, *NESTS) if wanted else NESTS):
        if name and isinstance(held.get(name), Mapping):
            if _is_state(held[name]):
                return name, dict(held[name])
            key, state = _part(held[name], "", path)
            return f"{name}::{key}" if key else name, state
    if _is_state(held):
        return "", dict(held)
    raise DataError(
        f"{path} holds {some(list(map(str, held)))}, and no weights by their names under {wanted or 'model'!r}; fetch it again"
    )


def _is_state(held: Mapping[Any, Any]) -> bool:
    return bool(held) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items())


def _require_shapes(state: Mapping[str, Tensor], names: Mapping[str, Tensor], path: Path) -> None:
    for name, value in names.items():
        if state[name].shape != value.shape:
            raise DataError(
                f"{path}: {name} has the shape {tuple(state[name].shape)}, the network's is {tuple(value.shape)}; take the weights "
                "that belong to this configuration"
            )


def _written(state: Mapping[str, Tensor], path: Path, source: str, options: AuditOptions, note: str) -> Weights:
    goal = Path(options.output_dir) / "model" / f"{path.stem}.pt"
    goal.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), goal)
    return Weights(goal.resolve(), "", source, (f"{path.name}: {note}",))
