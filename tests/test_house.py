"""The house: what every public name, file, folder and constructor keeps to, and what the bundles have in common."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import settings

from monai_advdef.bundle import bundles, home

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_advdef"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, FUNCTION_LINES, ARGUMENTS, FOLDER = 300, 60, 12, 20

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(tree: ast.Module, public: bool = False) -> Iterator[tuple[str, Definition]]:
    """Name and node of all classes and functions; of the ``public`` ones only what no private name or function hides."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
        for node in body:
            if not isinstance(node, Definition) or (public and node.name.startswith("_")):
                continue
            yield prefix + node.name, node
            if not public or isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    return inside(tree.body, "")


def rewritten(node: Definition) -> bool:
    """Whether it is an overload or a setter: its docstring stands elsewhere."""
    return any(ast.unparse(d).split(".")[-1] in ("overload", "setter") for d in node.decorator_list)


def undocumented(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["the module"]
    return found + [name for name, node in definitions(tree, public=True) if not ast.get_docstring(node) and not rewritten(node)]


def oversized(source: str) -> list[str]:
    found = []
    for name, node in definitions(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            continue
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES:
            found.append(f"{name} has {lines} lines, at most {FUNCTION_LINES}")
        given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        if node.name == "__init__" and len(given) - 1 > ARGUMENTS:
            found.append(f"{name} takes {len(given) - 1} arguments, at most {ARGUMENTS}: take the objects that they make up")
    return found


def test_the_measures_see_what_they_are_for():
    source = "class A:\n    '''A.'''\n    def b(self): ...\n    def _c(self): ...\n\ndef _d():\n    def e(): ...\n"
    assert undocumented(source) == ["the module", "A.b"] and oversized(source) == []
    arguments = ", ".join(f"a{i}" for i in range(ARGUMENTS))
    assert oversized(f"class A:\n    def __init__(self, *, {arguments}): ...\n") == []
    assert len(oversized(f"class A:\n    def __init__(self, *, {arguments}, more): ...\n")) == 1
    assert len(oversized("def f():\n" + "    pass\n" * FUNCTION_LINES)) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_documented_and_of_a_size_to_be_read(path):
    source = path.read_text(encoding="utf-8")
    assert undocumented(source) == [] and oversized(source) == []
    assert source.count("\n") <= LINES


def test_no_room_is_overfull():
    rooms = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert {str(room): n for room, n in rooms.items() if n > FOLDER} == {}


def test_setup_lists_the_packages_that_there_are():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.name == "__init__.py"}
    assert {path.parent for path in FILES} == {PACKAGE.parent.joinpath(*name.split(".")) for name in there}, (
        "a folder lacks __init__.py"
    )
    moved = {"monai_advdef.bundles", "monai_advdef.workflows"}  # these two stand at the root of the checkout
    assert len(set(listed)) == len(listed) and set(listed) == there | moved
    assert {f"monai_advdef.{home(name).name}" for name in ("bundles", "workflows")} == moved


def test_what_must_pass_before_a_change_lands_tries_the_same_examples_each_time():
    """Of every worker: each loads the profile by itself."""
    assert settings.default.derandomize or not os.environ.get("CI")  # type: ignore[attr-defined]


# -- what bundles have in common, and each says for itself: MONAI reads one file where one is named


def part(config: dict[str, Any], key: str) -> Any:
    """``train::trainer`` of a configuration, or ``train::trainer - max_epochs``: without what each bundle says for itself."""
    key, _, without = key.partition(" - ")
    for name in key.split("::"):
        config = config[name]
    return {k: v for k, v in config.items() if k not in without.split()} if without else config


COMMON = {
    "train.yaml": (
        *("bundle_root", "output_dir", "ckpt_dir", "device", "seed", "attack_def", "adaptive", "net", "cache_gb"),
        *("train::preprocessing", "train::dataset", "train::dataloader - drop_last", "train::inferer", "train::key_metric"),
        *("train::trainer - max_epochs", "validate::preprocessing", "validate::dataset", "validate::dataloader - batch_size"),
        *("validate::postprocessing", "validate::key_metric", "validate::evaluator - additional_metrics", "initialize"),
    ),
    "evaluate.yaml": ("validate::dataset::data", "cache_gb", "keep", "record_def::_target_", "record_def::attack", "run"),
}
"""What is the same in every bundle, by file."""


def configurations(file: str) -> dict[str, dict[str, Any]]:
    return {name: yaml.safe_load((folder / "configs" / file).read_text(encoding="utf-8")) for name, folder in bundles().items()}


def alike(found: dict[str, Any]) -> bool:
    first, *others = found.values()
    return all(other == first for other in others)


@pytest.mark.parametrize(("file", "key"), [(file, key) for file, keys in COMMON.items() for key in keys])
def test_bundles_train_and_evaluate_alike(file, key):
    flat = {name: {**config, **nested(config)} for name, config in configurations(file).items()}
    found = {name: part(config, key) for name, config in flat.items()}
    assert alike(found), found


def nested(config: dict[str, Any]) -> dict[str, Any]:
    """Keys such as ``validate::dataset::data``, which overlays write in one, as mappings in mappings."""
    made: dict[str, Any] = {}
    for key, value in config.items():
        *outer, last = key.split("::")
        if outer:
            inside = made
            for name in outer:
                inside = inside.setdefault(name, {})
            inside[last] = value
    return made


def test_bundles_follow_their_training_alike():
    """The handlers stand in one order (``multi_gpu_train.yaml`` counts on it) and differ in what the tracker notes down."""
    training, validation = {}, {}
    for name, config in configurations("train.yaml").items():
        training[name] = [{k: v for k, v in handler.items() if k != "experiment_param"} for handler in config["train"]["handlers"]]
        validation[name] = config["validate"]["handlers"][:2]
    assert alike(training) and alike(validation)


@pytest.mark.parametrize("file", ["multi_gpu_train.yaml", "logging.conf"])
def test_bundles_share_whole_files(file):
    assert alike({name: (folder / "configs" / file).read_text(encoding="utf-8") for name, folder in bundles().items()})


def test_no_name_is_a_module_and_something_else():
    """``_target_: monai_advdef.data.dataset`` is found by ``pydoc.locate``, which from Python 3.12 on takes the module."""
    taken = []
    for folder in PACKAGE.rglob("__init__.py"):
        name = ".".join(folder.parent.relative_to(ROOT).parts)
        package = importlib.import_module(name)
        found = (m.name for m in pkgutil.iter_modules([str(folder.parent)]))
        taken += [f"{name}.{m}" for m in found if not isinstance(vars(package).get(m, package), ModuleType)]
    assert taken == [], "modules of the name of what their package exports; rename the modules"
