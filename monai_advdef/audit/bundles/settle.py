"""What is changed in a bundle before its parts are built here: devices, files read by ``torch.load``, arguments that are gone."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import pydoc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigExpression

from monai_advdef.audit.bundles.config import LOCATOR, SEP, Config
from monai_advdef.audit.trust import references
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError, nearest

SAFE = "from monai_advdef.audit.weights import load_weights"
WEIGHTS = (".pt", ".pth", ".ckpt")
DEVICES = ("device", "map_location", "sw_device", "output_device")
# arguments that MONAI took once and takes no longer, and that changed nothing any more when they went
WITHOUT_EFFECT = {
    "SwinUNETR": {"img_size": "since MONAI 1.5"},
    "": {"meta_keys": "since MONAI 0.9", "meta_key_postfix": "since MONAI 0.9", "image_only": "since MONAI 1.3"},
}
RENAMED: dict[str, tuple[str, dict[str, str]]] = {  # arguments under their new names; those with "=" are given
    "SplitChanneld": ("SplitDimd", {"channel_dim": "dim"}),
    "AddChanneld": ("EnsureChannelFirstd", {"=channel_dim": "no_channel"}),
}
_SPECIAL = ("_target_", "_requires_", "_disabled_", "_desc_", "_mode_")


def dotted(item: dict[str, Any]) -> str:
    """The whole dotted name of a component's target, a bare one as MONAI finds it."""
    return str(ConfigComponent(config=item, id="", locator=LOCATOR).resolve_module_name())


def settle(config: Config, ids: Iterable[str], device: str, trust: bool) -> list[str]:
    """Change what the ids need so that it can be built here; returns what the user should know."""
    notes: list[str] = []
    moved: list[str] = []
    for id, value in config.reach(ids).items():
        for at, item in _within(value, id):
            if isinstance(item, str) and ConfigExpression.is_expression(item):
                new, asked = _rewritten(item, device, trust)
                if new != item:
                    config.put(at, new)
                    config.more_imports += [SAFE] * ("load_weights(" in new)
                    moved += [at] * asked
                    notes += [f"{config.source(at)}: the file that torch.load reads is read as tensors, on the CPU"] * (
                        "load_weights" in new
                    )
            elif (
                isinstance(item, str)
                and at.rsplit(SEP, 1)[-1] in DEVICES
                and item.startswith("cuda")
                and not device.startswith("cuda")
            ):
                config.put(at, device)
                moved.append(at)
            elif isinstance(item, str) and item.lower().endswith(WEIGHTS) and not Path(item).is_file():
                own = config.root / "models" / Path(item).name  # where its author kept it is another machine
                if own.is_file():
                    config.put(at, str(own))
            elif isinstance(item, dict) and isinstance(item.get("_target_"), str):
                notes += _arguments(config, at, item)
    if "device" in config.tree and config.get("device") != f"$torch.device('{device}')":
        config.put("device", f"$torch.device('{device}')")
    if moved:
        where = some([config.source(m) for m in dict.fromkeys(moved)])
        notes.append(f"made for a GPU, computed on {device} here: {where}")
    return list(dict.fromkeys(notes))


def _within(node: Any, at: str) -> list[tuple[str, Any]]:
    found = [(at, node)]
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(pairs):
        found += _within(value, f"{at}{SEP}{key}")
    return found


def _other(named: str, device: str) -> bool:
    """Whether a GPU is named where something else computes."""
    return (named == "cuda" or named.startswith("cuda:")) and not device.startswith("cuda")


class _Rewriter(ast.NodeTransformer):
    def __init__(self, device: str, trust: bool) -> None:
        self.device, self.trust, self.moved = device, trust, False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = ast.unparse(node.func)
        if name == "torch.load" and node.args:
            trusted = [ast.keyword("trust", ast.Constant(True))] if self.trust else []
            return ast.Call(ast.Name("load_weights", ast.Load()), node.args[:1], trusted)
        method = node.func.attr if isinstance(node.func, ast.Attribute) and not node.args else ""
        if isinstance(node.func, ast.Attribute) and _other(method, self.device):
            self.moved = True
            return ast.Call(ast.Attribute(node.func.value, "to", ast.Load()), [ast.Constant(self.device)], [])
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and _other(node.value, self.device):
            self.moved = True
            return ast.Constant(self.device)
        return node


def _rewritten(expression: str, device: str, trust: bool) -> tuple[str, bool]:
    """An expression for this device, with files read safely, and whether it asked for a GPU without looking for one."""
    text, names = references(expression[1:])
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return expression, False
    before, rewriter = ast.unparse(tree), _Rewriter(device, trust)
    after = ast.unparse(ast.fix_missing_locations(rewriter.visit(tree)))
    if after == before:
        return expression, False
    for name, id in names.items():
        after = after.replace(name, "@" + id)
    return "$" + after, rewriter.moved and "is_available" not in before


def _arguments(config: Config, at: str, item: dict[str, Any]) -> list[str]:
    """Drop arguments that the class takes no longer and that had no effect; weights from the network are not fetched.

    Raises:
        DataError: an argument that it does not take and that may have had an effect, or a target that is not there.
    """
    notes = _renamed(config, at, item)
    item = config.get(at)
    name = dotted(item)
    if isinstance(item.get("pretrained"), (bool, str)) and item["pretrained"] and _own(name):
        value = config.value(f"{at}{SEP}pretrained") if isinstance(item["pretrained"], str) else True
        if value:
            config.put(f"{at}{SEP}pretrained", False)
            notes.append(f"{config.source(at)}: pretrained weights are not fetched, for the checkpoint replaces them")
    if not _own(name) and "." in name:
        return notes
    built = pydoc.locate(name)
    if built is None:
        known = nearest(name.rsplit(".", 1)[-1], _names())
        version = importlib.metadata.version("monai")
        raise DataError(f"{config.source(at)}: MONAI {version} has no {name!r}; {known}; the bundle was made for another version")
    try:
        taken = inspect.signature(built).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return notes
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        return notes
    short = name.rsplit(".", 1)[-1]
    for key in [k for k in item if k not in taken and k not in _SPECIAL]:
        gone = WITHOUT_EFFECT.get(short, {}).get(key) or WITHOUT_EFFECT[""].get(key)
        if gone is None:
            raise DataError(
                f"{config.source(at)}: {short} of MONAI {importlib.metadata.version('monai')} takes no {key!r} "
                f"({nearest(key, taken)}); correct it, or install the version of MONAI that the bundle was made for"
            )
        config.put(at, {k: v for k, v in config.get(at).items() if k != key})
        notes.append(f"{config.source(at)}: {short} takes no {key!r} ({gone}), which had no effect; it is left out")
    return notes


def _renamed(config: Config, at: str, item: dict[str, Any]) -> list[str]:
    """A transform under the name that MONAI gave it later."""
    old = str(item["_target_"]).rsplit(".", 1)[-1]
    if old not in RENAMED or ("." in item["_target_"] and not _own(item["_target_"])):
        return []
    new, arguments = RENAMED[old]
    kept = {arguments.get(k, k): v for k, v in item.items() if arguments.get(k, k)}
    fixed = {k: v for k, v in arguments.items() if k.startswith("=")}
    config.put(at, {**kept, "_target_": new, **{k[1:]: v for k, v in fixed.items()}})
    return [f"{config.source(at)}: {old} is called {new} since MONAI 1.3"]


def _own(name: str) -> bool:
    return name.startswith(("monai.", "monai_advdef."))


def _names() -> list[str]:
    import monai.inferers
    import monai.networks.nets
    import monai.transforms

    return [*dir(monai.transforms), *dir(monai.networks.nets), *dir(monai.inferers)]
