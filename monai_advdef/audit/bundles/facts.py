"""The parts of a bundle in words, for the table of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monai_advdef.audit.bundles.chain import parts, target
from monai_advdef.audit.bundles.config import Config

CHAINS = ("preprocessing", "postprocessing")
ABSENT = {"inferer": "SimpleInferer, the engine's own", "postprocessing": "none", "key_metric": "none"}


def told_parts(config: Config, ids: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What each part is, and where it stands."""
    told = {}
    for part in ("preprocessing", "inferer", "postprocessing", "key_metric"):
        id = ids.get(part)
        value = ABSENT[part] if id is None else _chain(config, id) if part in CHAINS else _component(config, id)
        told[part.replace("_", " ")] = (value, "the evaluator names none" if id is None else config.source(id))
    return told


def _chain(config: Config, id: str) -> str:
    items = parts(config, id)
    return str(config.get(id)) if items is None else " > ".join(target(item) for item in items)


def _component(config: Config, id: str) -> str:
    """The class with its arguments, or the names of what is held."""
    node = config.get(id)
    if isinstance(node, dict) and "_target_" in node:
        given = ", ".join(f"{k}={v}" for k, v in node.items() if not k.startswith("_") and not isinstance(v, dict))
        return f"{target(node)}({given})"
    return ", ".join(map(str, node)) if isinstance(node, dict) else str(node)


def shortened(names: Sequence[str], most: int = 12) -> str:
    """The first of many names, and how many there are."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")
