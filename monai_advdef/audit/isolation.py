"""A stranger's configuration and what goes over it as one file: only what is referred to, under names of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from monai_advdef.audit.reading import Reading
from monai_advdef.errors import DataError, nearest

THEIRS = "theirs"
SOCKET = "deployed"


def isolated(reading: Reading) -> dict[str, Any]:
    """One configuration: ``deployed``, ``theirs`` (every node that it refers to, however far) and ``imports``.

    What is not referred to (training data, savers, TensorBoard) is not there, so nothing can build it; and no name of the model's
    files meets one of the evaluation.

    Raises:
        DataError: a reference to something that no file defines, naming both.
    """
    parser = ConfigParser(config=deepcopy(ConfigParser.load_config_files([str(f) for f in reading.files])) if reading.files else {})
    for key, value in reading.overlay.items():
        parser.set(deepcopy(value), key)
    parser.resolve_macro_and_relative_ids()
    config = parser.get()
    socket = config.get(SOCKET)
    if not isinstance(socket, Mapping):
        raise DataError(f"the reading of {reading.name} has no {SOCKET!r}; a reader of models fills it")
    theirs = _Part()
    todo, met = list(_references(socket)), set()
    while todo:
        name = todo.pop()
        if name in met:
            continue
        met.add(name)
        path, node = _found(config, name, reading)
        _take(theirs, path, node)
        todo += _references(node)
    imports = [text for text in config.get("imports") or [] if isinstance(text, str)]
    return {"imports": imports, SOCKET: _renamed(socket), THEIRS: _renamed(theirs)}


def _references(node: Any) -> Iterator[str]:
    """Every id that a part of a configuration refers to."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _references(value)
    elif isinstance(node, str):
        yield from (name for name in ReferenceResolver.match_refs_pattern(node) if name)


def _found(config: Mapping[str, Any], name: str, reading: Reading) -> tuple[list[str], Any]:
    """The path of a node, up to the first list on its way, and the node there."""
    keys, node, path = ReferenceResolver.split_id(name), config, []
    for key in keys:
        if isinstance(node, list):
            return path, node
        if not isinstance(node, Mapping) or key not in node:
            files = ", ".join(f.name for f in reading.files) or "the configuration"
            known = [str(k) for k in node] if isinstance(node, Mapping) else []
            raise DataError(f"{files} of {reading.name} refers to '@{name}', but defines no {key!r}; {nearest(key, known)}")
        node = node[key]
        path.append(key)
    return path, node


class _Part(dict[str, Any]):
    """A level of the tree of which only some nodes were taken over."""


def _take(tree: dict[str, Any], path: list[str], node: Any) -> None:
    """Take a node over, unless one that holds it has been."""
    for key in path[:-1]:
        tree = tree.setdefault(key, _Part())
        if not isinstance(tree, _Part):
            return
    if isinstance(tree.get(path[-1], _Part()), _Part):
        tree[path[-1]] = deepcopy(node)


def _renamed(node: Any) -> Any:
    """The same, with every reference into ``theirs``."""
    if isinstance(node, Mapping):
        return {key: _renamed(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_renamed(value) for value in node]
    if not isinstance(node, str):
        return node
    text = ReferenceResolver.normalize_id(node)
    names = [name for name in ReferenceResolver.match_refs_pattern(node) if name]
    if not names:
        return node
    matcher = ReferenceResolver.id_matcher
    return matcher.sub(lambda found: f"@{THEIRS}::{found[0][1:]}" if len(found[0]) > 1 else found[0], text)
