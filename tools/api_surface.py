"""The public surface: every public name with its arguments, every verb, option, overlay and bundle.

    python -m tools.api_surface            # what differs from api_surface.json; ends with 1 where something does
    python -m tools.api_surface --write    # write it anew

A name is public where the ``__all__`` of a package or module lists it. Annotations are left out: they may be made more exact.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai_advdef
from monai_advdef.bundle import bundles, workflows
from monai_advdef.commands import parser

FILE = Path(__file__).parents[1] / "api_surface.json"
PRIVATE = (
    "monai_advdef.papers",
    "monai_advdef.phantoms",
    "monai_advdef.neighbours",
)  # called by configurations and by the house alone
REMEDY = "if it is meant, run `python -m tools.api_surface --write`; what is taken away is deprecated first (CONTRIBUTING.md)"


def modules() -> Iterator[str]:
    """The packages with public names, the lightest first."""
    yield "monai_advdef"
    for found in pkgutil.iter_modules(monai_advdef.__path__, "monai_advdef."):
        if found.ispkg and found.name not in PRIVATE:
            yield found.name


def default(value: Any) -> str:
    """A default value in words that are the same on every machine."""
    plain = value is None or isinstance(value, (bool, int, float, str, tuple, list, dict))
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


def arguments(made: Any) -> str:
    """``(a, b=1, *, c)`` of a function or class, without ``self``; empty where Python knows none."""
    try:
        listed = inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters.values()
    except (TypeError, ValueError):
        return ""
    listed = [p for p in listed if p.name != "self"]
    words, starred = [], False
    for p in listed:
        if p.kind is p.VAR_POSITIONAL or (p.kind is p.KEYWORD_ONLY and not starred):
            starred = True
            if p.kind is p.KEYWORD_ONLY:
                words.append("*")
        prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        words.append(prefix + p.name + ("" if p.default is p.empty else f"={default(p.default)}"))
    return f"({', '.join(words)})"


def members(kind: type) -> dict[str, str]:
    """The public methods and properties of a class, its own and those of our classes below it."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("monai_advdef")]
    names = {name for base in ours for name in vars(base) if not name.startswith("_")}
    found = {}
    for name in sorted(names):
        value = inspect.getattr_static(kind, name)
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        found[name] = arguments(value) if inspect.isfunction(value) else "property" if isinstance(value, property) else "attribute"
    return {name: what for name, what in found.items() if what != "attribute"}


def described(value: Any) -> Any:
    """What is kept of a public name: how it is called; of a class its methods, too."""
    if inspect.isclass(value):
        return {"class": arguments(value), **members(value)}
    if callable(value):  # monai_advdef.audit is a module that can be called
        return f"function{arguments(value if inspect.isfunction(value) else value.__call__)}"
    return type(value).__name__


def surface() -> dict[str, Any]:
    """The whole surface, as plain JSON."""
    names: dict[str, Any] = {}
    for module in modules():
        made = importlib.import_module(module)
        if listed := getattr(made, "__all__", ()):
            names[module] = {name: described(getattr(made, name)) for name in sorted(listed)}
    top = parser()
    (verbs,) = (a.choices for a in top._actions if isinstance(a.choices, dict))
    options = {verb: [*positionals(p), *sorted(p.options())] for verb, p in sorted(verbs.items())}
    return {"names": names, "verbs": options, "overlays": sorted(workflows()), "bundles": sorted(bundles())}


def positionals(verb: argparse.ArgumentParser) -> list[str]:
    """What a verb takes without a name."""
    return [action.dest for action in verb._actions if not action.option_strings]


def flat(part: Any, path: str = "") -> dict[str, Any]:
    """``{"names/monai_advdef/run": ...}``: one entry for each thing that can differ."""
    if isinstance(part, dict):
        return {k: v for name, inner in part.items() for k, v in flat(inner, f"{path}/{name}").items()}
    if isinstance(part, list):
        return {f"{path}/{entry}": "there" for entry in part}
    return {path: part}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What was added, taken away and changed, a line each."""
    before, after = flat(old), flat(new)
    gone = [f"gone: {name.lstrip('/')}" for name in before if name not in after]
    added = [f"new: {name.lstrip('/')} {after[name]}" for name in after if name not in before]
    both = [name for name in before if name in after and before[name] != after[name]]
    return gone + added + [f"changed: {name.lstrip('/')} {before[name]} -> {after[name]}" for name in both]


def main() -> int:
    """The command; 0 where the file says what the code does."""
    options = argparse.ArgumentParser(description="Compare the public names with api_surface.json.")
    options.add_argument("--write", action="store_true", help="write the file anew")
    if options.parse_args().write:
        FILE.write_text(json.dumps(surface(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    found = differences(json.loads(FILE.read_text(encoding="utf-8")), surface())
    print("\n".join([*found, REMEDY] if found else ["nothing differs"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
