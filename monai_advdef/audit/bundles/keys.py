"""Under which keys a bundle's evaluator finds image and label."""

from __future__ import annotations

import ast

from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.trust import references

IMAGE, LABEL = "image", "label"


def keys_read(config: Config, evaluator: str) -> tuple[str, str]:
    """The keys of image and label: those that MONAI's engines read, or those of the evaluator's own ``prepare_batch``."""
    id = config.follow(f"{evaluator}{SEP}prepare_batch")
    told = config.get(id)
    if isinstance(told, dict):
        given = [told.get(name) for name in ("image_key", "label_key")]
        return str(given[0] or IMAGE), str(given[1] or LABEL)
    if isinstance(told, str) and told.startswith("$"):
        text, names = references(told[1:])
        found = [_key(config, node.slice, names) for node in _subscripts(text)]
        keys = list(dict.fromkeys(key for key in found if key))
        if keys:
            return keys[0], keys[1] if len(keys) > 1 else LABEL
    return IMAGE, LABEL


def _subscripts(text: str) -> list[ast.Subscript]:
    try:
        nodes = [n for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Subscript)]
    except SyntaxError:
        return []
    return sorted(nodes, key=lambda n: (n.lineno, n.col_offset))


def _key(config: Config, node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return str(config.value(names[node.id]))
    return ""
