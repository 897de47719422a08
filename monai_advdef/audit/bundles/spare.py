"""What a preprocessing makes for training alone (a copy of the label to crop by): neither the network nor a score depends on it."""

from __future__ import annotations

from typing import Any

from monai_advdef.audit.bundles.chain import keys_of, parts, put_parts, target
from monai_advdef.audit.bundles.config import Config
from monai_advdef.data.notes import some

COPIES = ("CopyItemsd", "CopyItemsD", "CopyItemsDict")


def without_spare(config: Config, transform: str, others: list[str | None]) -> list[str]:
    """Take copies out of a chain that only transforms of themselves read, with these transforms; returns what is to be told.

    Args:
        others: ids of what else may read a case, the postprocessing.
    """
    items = parts(config, transform)
    if items is None:
        return []
    copies = {name for item in items if target(item) in COPIES for name in _names(item)}
    spare = {name for name in copies if not _read_elsewhere(config, name, items, others)}
    if not spare:
        return []
    kept: list[dict[str, Any]] = []
    gone: list[str] = []
    for item in items:
        own = set(_names(item)) if target(item) in COPIES else set(keys_of(config, item))
        if own and own <= spare:
            gone.append(target(item))
        else:
            kept.append({**item, "allow_missing_keys": True} if own & spare else item)
    put_parts(config, transform, kept)
    return [f"{config.source(transform)}: {', '.join(gone)} of {some(sorted(spare))} are left out: nothing else reads it"]


def _names(item: dict[str, Any]) -> list[str]:
    told = item.get("names") or ()
    return [str(n) for n in ([told] if isinstance(told, str) else told)]


def _read_elsewhere(config: Config, name: str, items: list[dict[str, Any]], others: list[str | None]) -> bool:
    """Whether something names a key otherwise than as one of its ``keys``, or in words that cannot be told apart from it."""
    for item in items:
        rest = {k: v for k, v in item.items() if k not in ("keys", "names" if target(item) in COPIES else "keys")}
        if name in _texts(rest) or (target(item) in COPIES and name in keys_of(config, item)):
            return True
    return any(name in str(config.get(config.follow(id))) for id in others if id)


def _texts(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set().union(*map(_texts, node.values())) if node else set()
    if isinstance(node, (list, tuple)):
        return set().union(*map(_texts, node)) if node else set()
    return {node} if isinstance(node, str) else set()


def one_chain(config: Config, transform: str, postprocessing: str | None) -> list[str]:
    """Let inversions go through the preprocessing itself where the files hold a second copy of it; returns what is to be told."""
    wanted = config.follow(transform)
    items = parts(config, postprocessing) if postprocessing else None
    changed = False
    for item in items or ():
        told = item.get("transform")
        if target(item).startswith("Invert") and isinstance(told, dict) and told == config.get(wanted):
            item["transform"] = f"@{wanted}"
            changed = True
    if items is not None and changed:
        put_parts(config, str(postprocessing), items)
        where = config.source(str(postprocessing))
        return [f"{where}: an inversion has a copy of the preprocessing; it goes through the one in use"]
    return []
