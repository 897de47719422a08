"""The configuration of a bundle as one tree: macros expanded, what an id depends on, its value, its changes as an overlay."""

from __future__ import annotations

import ast
import glob
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigExpression, ConfigParser, ReferenceResolver
from monai.utils import OptionalImportError

from monai_advdef.audit.bundles.packages import require_packages
from monai_advdef.audit.trust import references
from monai_advdef.errors import DataError, nearest, reading, reason

SEP = "::"
LOCATOR = ComponentLocator(excludes=["monai.bundle"])
_ABSENT = object()
_ASIDE = "_aside_"
Guard = Callable[["Config", Iterable[str], bool], None]


class NotBuilt(DataError):
    """A part of a configuration that fails when it is built or evaluated, with the reason."""


class Config:
    """The joined files of a bundle.

    Args:
        files: in their order; later ones go over earlier ones.
        root: the folder of the bundle; macros of other files stay within.
        metadata: what ``metadata.json`` says, for expressions that refer to it.
        guard: is called with ids before they are evaluated, and raises where they may do more than compute; ``None``: all is
            trusted.
    """

    def __init__(self, files: Sequence[Path], root: Path, metadata: dict[str, Any], guard: Guard | None = None) -> None:
        self.files, self.root, self.guard = list(files), root, guard
        self._own: dict[Path, dict[str, Any]] = {}
        for file in files:
            with reading(file, "is no configuration that can be read", "correct it"):
                self._own[file] = ConfigParser.load_config_file(file)
                if not isinstance(self._own[file], dict):
                    raise ValueError("no table of keys")
        with reading(files[-1], f"does not fit {', '.join(f.name for f in files[:-1])}", "correct it"):
            self.raw = ConfigParser.load_config_files([str(f) for f in files])
        parser = ConfigParser(self._within(deepcopy(self.raw)))
        parser["_meta_"] = metadata
        with reading(files[0], "has a macro that leads nowhere", "correct it"):
            parser.resolve_macro_and_relative_ids()
        self.tree: dict[str, Any] = parser.get()
        self.edits: list[str] = []
        self.more_imports: list[str] = []  # what changed expressions need

    def _within(self, config: Any) -> Any:
        """The same with macros of other files made absolute; one that leaves the bundle is refused."""
        if isinstance(config, (dict, list)):
            for key, _, value in ReferenceResolver.iter_subconfigs("", config):
                config[key] = self._within(value)  # type: ignore[call-overload]
        elif isinstance(config, str) and config.startswith("%"):
            path, rest = ConfigParser.split_path_id(config[1:])
            if path:
                file = (self.root / path).resolve()
                if not file.is_relative_to(self.root.resolve()):
                    raise DataError(f"{self.files[0]}: the macro {config!r} reads a file outside the bundle; put a copy into it")
                return f"%{file}{SEP + rest if rest else ''}"
        return config

    def has(self, id: str) -> bool:
        """Whether the id is there."""
        return self.get(id, _ABSENT) is not _ABSENT

    def get(self, id: str, default: Any = None) -> Any:
        """What stands at an id."""
        node: Any = self.tree
        for key in ReferenceResolver.normalize_id(id).split(SEP):
            node = _below(node, key, _ABSENT)
            if node is _ABSENT:
                return default
        return node

    def put(self, id: str, value: Any) -> None:
        """Change what stands at an id, in either of MONAI's forms (``a#b``, ``a::b``); the overlay says so."""
        id = ReferenceResolver.normalize_id(id)
        *path, last = id.split(SEP)
        node: Any = self.get(SEP.join(path)) if path else self.tree
        node[int(last) if isinstance(node, list) else last] = value
        self.edits.append(id)

    def follow(self, id: str) -> str:
        """The id that a plain reference (``"@a"``, ``"$@a"``) at ``id`` leads to, over several steps."""
        for _ in range(20):
            value = self.get(id)
            text = value.removeprefix("$").strip() if isinstance(value, str) else ""
            if not (text.startswith("@") and ReferenceResolver.id_matcher.fullmatch(ReferenceResolver.normalize_id(text))):
                return id
            id = ReferenceResolver.normalize_id(text[1:])
        return id

    def source(self, id: str) -> str:
        """``id in configs/file``: the last of the files that says something of it."""
        written = ReferenceResolver.normalize_id(id)
        for file in reversed(self.files):
            keys = [ReferenceResolver.normalize_id(str(k)).lstrip("+") for k in self._own[file]]
            if any(written == k or written.startswith(k + SEP) or k.startswith(written + SEP) for k in keys):
                return f"{written.replace(SEP, '#')} in {self.name_of(file)}"
        return f"{written.replace(SEP, '#')} in {self.name_of(self.files[0])}"

    def name_of(self, file: Path) -> str:
        """A file as messages call it."""
        return str(file.relative_to(self.root)) if file.is_relative_to(self.root) else file.name

    def reach(self, ids: Iterable[str]) -> dict[str, Any]:
        """The ids with all that they refer to, over any number of steps.

        Raises:
            DataError: a reference that leads nowhere.
        """
        found: dict[str, Any] = {}
        waiting = [ReferenceResolver.normalize_id(i) for i in ids]
        while waiting:
            id = waiting.pop()
            if id in found:
                continue
            if not self.has(id):
                raise DataError(f"{self.name_of(self.files[-1])}: nothing is called {id!r}; {nearest(id, map(str, self.tree))}")
            found[id] = self.get(id)
            waiting += ReferenceResolver.find_refs_in_config(found[id], id)
        return found

    def imports(self) -> list[str]:
        """Every import statement of the files, without its ``$``."""
        found: list[str] = list(self.more_imports)

        def walk(node: Any) -> None:
            if isinstance(node, str) and _is_import(node):
                found.append(node[1:])
            for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
                walk(value)

        walk(self.tree)
        return list(dict.fromkeys(found))

    def needed_imports(self, ids: Iterable[str]) -> list[str]:
        """The import statements whose names the ids use."""
        used: set[str] = set()
        for value in self.reach(ids).values():
            if ConfigExpression.is_expression(value) and not _is_import(value):
                used |= {n.id for n in ast.walk(ast.parse(references(value[1:])[0], mode="eval")) if isinstance(n, ast.Name)}
        return [s for s in self.imports() if used & bound_by(s)]

    def value(self, id: str, *, data: bool = False) -> Any:
        """What an id comes to; nothing that it does not need is built.

        Raises:
            DataError: it cannot be evaluated, with the reason.
        """
        plain = self.get(self.follow(id))
        if not _special(plain):
            return deepcopy(plain)
        if self.guard is not None:
            self.guard(self, [id], data)
        needed = self.needed_imports([id])
        require_packages(needed, self.source(id))
        given = {name: IN_DATA[s.split()[1]] for s in needed for name in bound_by(s) if data and s.split()[1] in IN_DATA}
        statements = [f"${s}" for s in needed if not (bound_by(s) & given.keys())]
        parser = ConfigParser({**_without_imports(self.tree), "imports": statements}, globals=given)
        parser.locator = LOCATOR
        try:
            return parser.get_parsed_content(id, instantiate=True, eval_expr=True)
        except DataError:
            raise
        except OptionalImportError as error:
            raise DataError(f"{self.source(id)} needs a package that is not installed ({reason(error)}); install it") from error
        except Exception as error:
            root = error
            while root.__cause__ is not None and isinstance(root, (RuntimeError, KeyError)):
                root = root.__cause__  # type: ignore[assignment]
            raise NotBuilt(f"{self.source(id)} cannot be built: {type(root).__name__}: {reason(root)}") from error

    def evaluated(self, text: str) -> Any:
        """What an expression or reference comes to that stands nowhere by itself."""
        self.tree[_ASIDE] = text
        try:
            return self.value(_ASIDE)
        finally:
            del self.tree[_ASIDE]

    def overlay(self) -> dict[str, Any]:
        """The changes, by id; below a macro the whole of what it stands for."""
        changed: dict[str, Any] = {}
        for id in dict.fromkeys(self._written(i) for i in self.edits):
            changed[id] = deepcopy(self.get(id))
        return changed

    def _written(self, id: str) -> str:
        """The id itself, or the one above it where the files hold a macro."""
        path = id.split(SEP)
        node: Any = self.raw
        for i, key in enumerate(path):
            node = (
                node.get(key)
                if isinstance(node, dict)
                else node[int(key)]
                if isinstance(node, list) and int(key) < len(node)
                else None
            )
            if isinstance(node, str) and node.startswith("%"):
                return SEP.join(path[: i + 1])
            if node is None:
                break
        return id


def _below(node: Any, key: str, default: Any = None) -> Any:
    if isinstance(node, dict):
        return node.get(key, default)
    return node[int(key)] if isinstance(node, list) and key.isdigit() and int(key) < len(node) else default


def _special(node: Any) -> bool:
    """Whether something is to be evaluated, built or looked up in a part of a configuration."""
    if isinstance(node, dict):
        return ConfigComponent.is_instantiable(node) or any(map(_special, node.values()))
    if isinstance(node, list):
        return any(map(_special, node))
    return isinstance(node, str) and node.startswith(("$", "@"))


def bound_by(statement: str) -> set[str]:
    """The names that an import statement binds."""
    node = ast.parse(statement.strip()).body[0]
    return {(a.asname or a.name).split(".")[0] for a in getattr(node, "names", [])[:1]}


def _is_import(text: str) -> bool:
    try:
        return ConfigExpression.is_import_statement(text)
    except SyntaxError:
        return False


def _without_imports(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _without_imports(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_without_imports(v) for v in node]
    return None if isinstance(node, str) and _is_import(node) else deepcopy(node)


def _sorted_glob(pattern: Any, **options: Any) -> list[str]:
    """``glob.glob`` in the order of the names."""
    return sorted(glob.glob(str(pattern), **options))


def _local_table(path: Any, *args: Any, **options: Any) -> Any:
    """``pandas.read_csv`` of a file of this machine, never of an address."""
    import pandas

    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; give the folder of the data by --dataset_dir")
    return pandas.read_csv(Path(path), *args, **options)


# What takes the place of modules in lists of data: tables of this machine alone, and files in an order that is always the same, so
# that lists of images and of labels belong together
IN_DATA = {"pandas": SimpleNamespace(read_csv=_local_table), "glob": SimpleNamespace(glob=_sorted_glob, iglob=_sorted_glob)}
