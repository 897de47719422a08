"""A bundle's chains of transforms: their parts, without those that save, and with the label where only the image is transformed."""

from __future__ import annotations

import ast
from copy import deepcopy
from typing import Any

from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.trust import references

SAVERS = ("SaveImage", "SaveImaged", "SaveImageD", "SaveImageDict", "SaveClassificationd", "SaveSegd", "SaveVolumesd", "SaveTiffExd")


def target(item: Any) -> str:
    """The last part of a component's target, empty for what is no component."""
    name = item.get("_target_") if isinstance(item, dict) else None
    return name.rsplit(".", 1)[-1] if isinstance(name, str) else ""


def parts(config: Config, id: str) -> list[dict[str, Any]] | None:
    """The transforms of a chain, in their order; ``None`` where an expression makes them that is no plain joining of lists."""
    node = config.get(config.follow(id))
    if isinstance(node, str) and node.startswith("$"):
        return _joined(config, node[1:])
    if isinstance(node, list):
        return _each(config, config.follow(id), node)
    if isinstance(node, dict) and target(node) in ("Compose",):
        return parts(config, config.follow(id) + SEP + "transforms")
    return [node] if isinstance(node, dict) else None


def _each(config: Config, id: str, items: list[Any]) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = []
    for i, item in enumerate(items):
        inner = [item] if isinstance(item, dict) and target(item) != "Compose" else parts(config, f"{id}{SEP}{i}")
        if inner is None:
            return None
        found += inner
    return found


def _joined(config: Config, expression: str) -> list[dict[str, Any]] | None:
    """The parts of ``@a + @b``, ``@a if ... else @b``, ``list(@a)``, ``@a[:-1]``."""
    text, names = references(expression)

    def of(node: ast.expr) -> list[dict[str, Any]] | None:
        if isinstance(node, ast.Name) and node.id in names:
            return parts(config, names[node.id])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = of(node.left), of(node.right)
            return None if left is None or right is None else left + right
        if isinstance(node, ast.List) and not node.elts:
            return []
        if isinstance(node, ast.IfExp):
            test = config.evaluated("$" + _back(ast.unparse(node.test), names))
            return of(node.body if test else node.orelse)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("list", "copy.deepcopy", "deepcopy") and len(node.args) == 1:
            return of(node.args[0])
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            whole = of(node.value)
            at = [None if e is None else ast.literal_eval(e) for e in (node.slice.lower, node.slice.upper, node.slice.step)]
            return None if whole is None else whole[slice(*at)]
        return None

    try:
        return of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _back(text: str, names: dict[str, str]) -> str:
    for name, id in names.items():
        text = text.replace(name, "@" + id)
    return text


def keys_of(config: Config, item: dict[str, Any]) -> list[str]:
    """The keys of a dictionary transform as text, references followed."""
    told = item.get("keys", ())
    told = [told] if isinstance(told, str) else told
    found: list[str] = []
    for key in told if isinstance(told, (list, tuple)) else ():
        if isinstance(key, str) and key.startswith(("@", "$")):
            value = config.evaluated(key)
            found += [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]
        else:
            found.append(str(key))
    return found


def without(config: Config, id: str, names: tuple[str, ...]) -> list[str]:
    """Take the transforms called so out of a chain, and return which; the chain keeps its id, and references to it their object."""
    items = parts(config, id)
    gone = [target(item) for item in items or () if target(item) in names]
    if items is not None and gone:
        put_parts(config, id, [item for item in items if target(item) not in names])
    return gone


def put_parts(config: Config, id: str, items: list[dict[str, Any]]) -> None:
    """Write a chain as the list of its transforms."""
    at = config.follow(id)
    whole = config.get(at)
    kept = {k: v for k, v in whole.items() if k != "transforms"} if target(whole) == "Compose" else {"_target_": "Compose"}
    config.put(at, {**kept, "transforms": deepcopy(items)})


# What is done to a label where the same is done to its image: arguments that stay, and how it is interpolated.
SPATIAL: dict[str, dict[str, Any]] = {
    "LoadImage": {},
    "EnsureChannelFirst": {},
    "Orientation": {},
    "Spacing": {"mode": "nearest"},
    "SpatialResample": {"mode": "nearest"},
    "Resize": {"mode": "nearest"},
    "Zoom": {"mode": "nearest"},
    "Rotate": {"mode": "nearest"},
    "Affine": {"mode": "nearest"},
    "Flip": {},
    "Rotate90": {},
    "Transpose": {},
    "CropForeground": {},
    "CenterSpatialCrop": {},
    "SpatialCrop": {},
    "BorderPad": {"mode": "constant"},
    "SpatialPad": {"mode": "constant"},
    "DivisiblePad": {"mode": "constant"},
    "ResizeWithPadOrCrop": {"mode": "constant"},
    "EnsureType": {},
    "ToTensor": {},
    "SqueezeDim": {},
}
_OF_IMAGES = ("anti_aliasing", "anti_aliasing_sigma", "dtype", "simple_keys", "meta_keys", "meta_key_postfix", "align_corners")


def twin(config: Config, item: dict[str, Any], image: str, label: str, depth: int) -> dict[str, Any] | None:
    """The same transform for the label, where one of the image moves, loads or shapes it.

    Args:
        depth: number of axes of a picture or volume; the label of a picture has no channels in its file.
    """
    name = target(item)
    plain = name.removesuffix("Dict").removesuffix("d").removesuffix("D")
    if plain not in SPATIAL or image not in keys_of(config, item):
        return None
    made = {k: v for k, v in deepcopy(item).items() if k not in _OF_IMAGES} | {"keys": label}
    if plain == "EnsureChannelFirst":
        made.pop("channel_dim", None)
        made |= {"channel_dim": "no_channel"} if depth == 2 else {}
    if plain == "EnsureType":
        made.pop("dtype", None)
    if any(k in made for k in ("mode",)) or plain in ("Spacing", "SpatialResample", "Resize", "Zoom", "Rotate", "Affine"):
        made |= SPATIAL[plain]
    made.pop("padding_mode", None)
    made.pop("allow_missing_keys", None)
    return made
