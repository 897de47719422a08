"""Whether a configuration of someone else only computes: its expressions and targets, checked before any of them is built.

An expression may name what ``trusted_names`` lists, and nothing else: no attribute with two underscores, no module as a value, no
method but those listed, no assignment. It is read as a syntax tree, so text that is put together at run time names nothing.
"""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.util
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigComponent, ReferenceResolver

from monai_advdef.audit import trusted_names as known
from monai_advdef.errors import DataError

LOCATED = ("reader", "writer", "merger_cls")  # arguments by which MONAI looks up a class by its dotted name
_NODES = (
    "Expression Constant Name Load Store Attribute Subscript Slice Call keyword BinOp UnaryOp BoolOp Compare IfExp List Tuple Dict "
    "Set ListComp SetComp DictComp GeneratorExp comprehension Lambda arguments arg Starred JoinedStr FormattedValue"
).split()
_KINDS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


class Impure(ValueError):
    """What would do more than compute, in words."""


class Missing(ValueError):
    """A package that is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"the package {package} is not installed")
        self.package = package


def refusal(where: str, what: str, why: str) -> DataError:
    """The error about ``what`` (an expression, a target, a file) that stands at ``where``."""
    return DataError(f"{where}: {what} {why}; if you trust who made this model, audit it with --trust")


def references(expression: str) -> tuple[str, dict[str, str]]:
    """An expression (without its ``$``) with a name in place of every ``@id``, and the ids of these names."""
    text, names = ReferenceResolver.normalize_id(expression), {}
    found = sorted(set(ReferenceResolver.id_matcher.findall(text)), key=len, reverse=True)
    for i, reference in enumerate(found):
        names[f"_ref_{i}_"] = reference[1:]
        text = text.replace(reference, f"_ref_{i}_")
    return text.strip(), names


def imported(statements: list[str]) -> dict[str, str]:
    """The dotted name behind every name that import statements (without their ``$``) bind, as MONAI binds them: the first."""
    names = dict(known.ALWAYS)
    for statement in statements:
        node = ast.parse(statement.strip()).body[0]
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        alias = node.names[0]
        name, dotted = alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        if isinstance(node, ast.ImportFrom):
            name, dotted = alias.asname or alias.name, f"{node.module}.{alias.name}"
        names[name] = dotted if names.get(name, dotted) == dotted else f"{names[name]} and {dotted}"
    return names


def check_expression(expression: str, modules: Mapping[str, str], *, data: bool = False) -> None:
    """Pass where an expression (without its ``$``) only computes.

    Args:
        modules: the dotted names behind the names that it may use.
        data: it makes a list of data, and may read tables.

    Raises:
        Impure: where it may do more.
    """
    text, names = references(expression)
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise Impure(f"is no expression of Python ({error.msg})") from error
    nodes = list(ast.walk(tree))
    bound = {n.arg for n in nodes if isinstance(n, ast.arg)} | set(names)
    bound |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    inner = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    inner |= {id(n.func) for n in nodes if isinstance(n, ast.Call) and _is_direct(n)}
    for node in nodes:
        if type(node).__name__ not in _NODES and not isinstance(node, _KINDS):
            raise Impure(f"holds a {type(node).__name__}, which an expression of a configuration does not need")
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inner:
            _check_name(node, bound, modules, data)


def _is_direct(node: ast.Call) -> bool:
    """Whether a call is one of those that are judged with their arguments, and nowhere else allowed.

    Raises:
        Impure: for other arguments than those that only read.
    """
    name = ast.unparse(node.func)
    starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
    if name == "open":
        modes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
        reads = all(isinstance(mode, ast.Constant) and mode.value in ("r", "rt", "rb") for mode in modes)
        if starred or not reads or len(node.args) > 2 or any(k.arg not in ("mode", "encoding") for k in node.keywords):
            raise Impure("opens a file to write, or as its text does not tell")
        return True
    if name == "load_weights":
        if starred or len(node.args) != 1 or node.keywords:
            raise Impure("loads a file otherwise than as plain weights")
        return True
    return False


def _check_name(node: ast.Name | ast.Attribute, bound: set[str], modules: Mapping[str, str], data: bool) -> None:
    """A name with all the attributes behind it: of a module, or of a value."""
    path: list[str] = []
    root: ast.expr = node
    while isinstance(root, ast.Attribute):
        path.insert(0, root.attr)
        root = root.value
    if not isinstance(root, ast.Name):
        table = data and isinstance(root, ast.Call) and "read_csv" in ast.unparse(root.func)
        return _check_methods(path, column=table)
    if root.id in modules:
        _check_dotted(".".join([modules[root.id], *path]), data)
        if root.id not in bound:
            return None
    elif root.id not in bound and root.id not in known.BUILTINS:
        raise Impure(f"uses {root.id!r}, which is not among what may be named")
    return _check_methods(path)


def _check_methods(path: list[str], *, column: bool = False) -> None:
    for i, name in enumerate(path):
        if column and i == 0 and not name.startswith("_") and not hasattr(_frame(), name):
            continue  # a column of a table
        if name not in known.METHODS:
            raise Impure(f"uses the attribute {name!r}, which is not among what may be named")


def _frame() -> type:
    import pandas

    return pandas.DataFrame


def _check_dotted(dotted: str, data: bool) -> None:
    for module, names in {**known.FUNCTIONS, **(known.DATA_FUNCTIONS if data else {})}.items():
        if dotted.startswith(module + ".") and _first(dotted[len(module) + 1 :], names):
            return
    root = dotted.split(".")[0]
    for module, names in (("numpy", known.NUMPY), ("torch", known.TORCH)):
        if root == module and _first(dotted[len(module) + 1 :], names):
            return
    if known.BY_TARGET_ONLY.search(dotted):
        raise Impure(f"uses {dotted!r} in an expression; define it by its _target_")
    if dotted.startswith(known.WHOLE) or root in ("monai", "torch", "ignite", "monai_advdef"):
        check_target(dotted)
        return
    raise Impure(f"uses {dotted!r}, which is not among what may be named")


def _first(rest: str, names: frozenset[str]) -> bool:
    """Whether ``rest`` is one of ``names``, with methods behind it or without."""
    for name in names:
        if rest == name or rest.startswith(name + "."):
            _check_methods(rest[len(name) + 1 :].split(".") if rest != name else [])
            return True
    return False


def check_target(dotted: str) -> None:
    """Pass where a dotted name is a class or function that may be built.

    Raises:
        Impure: another one, or none.
    """
    thing = _found(dotted)
    home = str(getattr(thing, "__module__", None) or type(thing).__module__)
    if isinstance(thing, types.ModuleType):
        raise Impure(f"hands out the module {dotted!r}")
    if dotted in known.HELPERS or f"{home}.{getattr(thing, '__name__', '')}" in known.HELPERS or _is_helper(thing, home):
        return
    if known.ACTS.search(dotted) or known.ACTS.search(home):
        raise Impure(f"names {dotted!r}, which may write, fetch or start something")
    homes = (*known.HOMES, *known.WHOLE)
    if not (any(home == known_home or home.startswith(known_home + ".") for known_home in homes) or known.APPS.match(home)):
        raise Impure(f"names {dotted!r}, which is none of the classes and functions that only compute")


def _is_helper(thing: Any, home: str) -> bool:
    """Whether something is known by a shorter name than that of the file it is in."""
    name = getattr(thing, "__name__", "")
    parts = home.split(".")
    return any(".".join([*parts[:i], name]) in known.HELPERS for i in range(2, len(parts)))


def _found(dotted: str) -> Any:
    """What a dotted name of a known package means, walking through modules of that package only."""
    parts = dotted.split(".")
    if any(part.startswith("__") for part in parts):
        raise Impure(f"names {dotted!r}, with two underscores")
    root = parts[0]
    if root not in {h.split(".")[0] for h in (*known.HOMES, *known.WHOLE)}:
        raise Impure(f"names {dotted!r}, code of its own or of a package that is not known")
    thing: Any = _module(root, dotted)
    for i, part in enumerate(parts[1:], start=2):
        if isinstance(thing, types.ModuleType) and not hasattr(thing, part):
            thing = _module(".".join(parts[:i]), dotted)
        elif isinstance(thing, types.ModuleType) or (inspect.isclass(thing) and issubclass(thing, enum.Enum)):
            thing = getattr(thing, part, None)
        else:
            raise Impure(f"names {dotted!r}, an attribute of an object")
        if thing is None or (isinstance(thing, types.ModuleType) and thing.__name__.split(".")[0] != root):
            raise Impure(f"names {dotted!r}, which is not there or belongs to another package")
    return thing


def _module(name: str, dotted: str) -> types.ModuleType:
    root = name.split(".")[0]
    if importlib.util.find_spec(root) is None:
        raise Missing(root)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Impure(f"names {dotted!r}, which is not there ({error})") from error


def components(config: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Every component and every text in a part of a configuration, with its id."""
    if isinstance(config, str):
        yield at, config
    elif isinstance(config, (dict, list)):
        if ConfigComponent.is_instantiable(config):
            yield at, config
        for _, sub, value in ReferenceResolver.iter_subconfigs(at, config):
            yield from components(value, sub)
