"""Every command line of the documentation means something: its files, options, verbs and imports are there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_advdef.audit.socket import MODEL
from monai_advdef.bundle import bundles, workflows
from monai_advdef.commands import parser as _parser

ROOT = Path(__file__).parents[1]
GENERAL = ("README.md", "monai_advdef/data/README.md", "workflows/README.md", "workflows/corruptions/README.md")
PAGES = {
    **{page: "skin_lesion_dermoscopy_segmentation" for page in GENERAL},
    **{f"bundles/{name}/docs/README.md": name for name in bundles()},
}
SPEAKING = (
    "benchmarks/README.md",
    "docs/decisions.md",
    "monai_advdef/README.md",
    "workflows/papers/README.md",
)  # but command nothing
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
STUBS = """
say() { "$PY" -c 'import json, sys; print("WORDS " + json.dumps(sys.argv[1:]))' "$@"; }
python() { say python "$@"; }
torchrun() { say torchrun "$@"; }
make() { say make "$@"; }
monai-advdef() { if [ "$1 $2" = "list --where" ]; then echo "$FOLDER"; else say monai-advdef "$@"; fi; }
"""


def blocks(page: str) -> list[str]:
    """The shell blocks of a page; where a line begins with three dots, which stand for the words of an evaluation, with these."""
    stands = "python -m monai.bundle run --config_file \"['configs/train.yaml','configs/evaluate.yaml',"
    return [re.sub(r"^\.\.\. ", lambda _: stands, b, flags=re.MULTILINE) for b in BLOCK.findall((ROOT / page).read_text())]


def commands(page: str) -> list[list[str]]:
    """The words of each command, as bash hands them over; the blocks of a page share their variables and functions."""
    script = STUBS + "\n".join(blocks(page))
    environment = {"PY": sys.executable, "FOLDER": str(ROOT / "workflows"), "PATH": "/usr/bin:/bin"}
    told = subprocess.run(["bash", "-eu", "-c", script], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0 and not told.stderr, f"{page}: {told.stderr}"
    return [json.loads(line.removeprefix("WORDS ")) for line in told.stdout.splitlines() if line.startswith("WORDS ")]


def options(words: list[str]) -> dict[str, str]:
    names, values = words[::2], words[1::2]
    assert len(names) == len(values) and all(n.startswith("--") for n in names), words
    return {n.removeprefix("--"): v for n, v in zip(names, values)}


def check_bundle_run(bundle: Path, words: list[str]) -> None:
    told = options(words)
    listed = told.pop("config_file")
    files = ast.literal_eval(listed) if listed.startswith("[") else [listed]
    paths = [bundle / f for f in files]
    assert all(p.is_file() for p in paths), f"no such file: {[str(p) for p in paths if not p.is_file()]}"
    parser = ConfigParser()
    parser.read_config([str(p) for p in paths])
    for name in told:
        assert holds(parser, name), f"{name} is no option of {files}"


def holds(parser: ConfigParser, name: str) -> bool:
    """Whether the configuration has the item, or what is above it takes options of any name."""
    parent, _, last = name.rpartition("::")
    held: Any = parser.config
    for key in parent.split("::") if parent else []:
        held = held[int(key)] if isinstance(held, list) else held.get(key)
        if held is None:
            return False
        while isinstance(held, str) and held.startswith("@"):
            held = parser[held[1:]]
    return last in held if held is parser.config else isinstance(held, (dict, list))


def check_python(words: list[str]) -> None:
    if words[:1] == ["-m"]:
        assert importlib.util.find_spec(words[1]), words
        return
    assert words[0] == "-c"
    for node in ast.walk(ast.parse(words[1])):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), words[1]


def merged(bundle: Path, name: str, overlay: Path) -> ConfigParser | None:
    """A training (or an evaluation, which follows it) with an overlay; ``None`` where the overlay is for the other of the two."""
    parser = ConfigParser()
    try:
        parser.read_config([str(bundle / "configs" / f"{n}.yaml") for n in dict.fromkeys(("train", name))] + [str(overlay)])
    except (ValueError, KeyError, IndexError):  # it adds to what only the other one has
        return None
    return parser


def spoken(page: str) -> list[str]:
    """What a page's text, outside of its blocks, says in code letters."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL))


def check(bundle: Path, words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif program == "monai-advdef":
        _parser().parse_args(rest)
    elif "monai.bundle" in rest:
        check_bundle_run(bundle, rest[rest.index("run") + 1 :])
    else:
        check_python(rest)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page(page):
    found = commands(page)
    assert found
    for words in found:
        check(bundles()[PAGES[page]], words)


@pytest.mark.parametrize("page", [*PAGES, *SPEAKING])
def test_the_options_and_files_that_a_page_speaks_of(page):
    bundle = bundles()[PAGES.get(page, PAGES["README.md"])]
    overlays = [*workflows().values(), *sorted((bundle / "configs").glob("*.yaml"))]
    known = [merged(bundle, name, file) for file in overlays for name in ("train", "evaluate")]
    files = {str(p.relative_to(ROOT)) for folder in ("bundles", "workflows") for p in (ROOT / folder).rglob("*.yaml")} | {MODEL}
    verbs = {*_parser().options(), "--config_file"}
    for words in spoken(page):
        for name in re.findall(r"(?:^|\s)--([a-z][\w:]*)", words) if words.startswith("--") else ():
            assert f"--{name}" in verbs or any(holds(parser, name) for parser in known if parser), f"{page}: {words}"
        for file in re.findall(r"(?<![\w%])[\w./$]+\.yaml", words):
            ends = file.replace("$W", "workflows").replace("$P", "papers")
            assert any(f.endswith(ends) for f in files), f"{page}: {words}"
        for name in re.findall(r"^monai_advdef(?:\.\w+)+", words):
            module, _, last = name.rpartition(".")
            assert hasattr(importlib.import_module(module), last) or importlib.util.find_spec(name), f"{page}: {words}"
