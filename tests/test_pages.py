"""The pages: the first one is short, what they link to is there, and their Python and their evaluations are carried out."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import blobs, small_unet
from monai.bundle import run as stock
from monai.inferers import SimpleInferer
from test_docs_commands import commands

from monai_advdef.handlers import Suspect
from monai_advdef.records import read_records

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "bundles", "docker", "docs", "examples", "monai_advdef", "tests", "workflows")
PAGES = [
    str(page.relative_to(ROOT)) for page in sorted([*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))])
]
SMALL = {"image_size": 64, "batch_size": 8}


def python(page: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """What a page links to inside the project, outside of its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|mailto:", target)]


def test_the_first_page_is_short_and_leads_to_every_other():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    first = text.split("\n## ")[0]
    assert "card.png" in first and "monai-advdef audit" in first and "does not prove" in first
    found, new = set(), {ROOT / "README.md"}
    while new:
        found |= new
        new = {(page.parent / link.split("#")[0]).resolve() for page in new for link in links(page)} - found
        new = {page for page in new if page.suffix == ".md" and page.is_file()}
    assert {page for page in PAGES if ROOT / page not in found} == set(), "nobody finds them: link to them from a page beside"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    for target in links(ROOT / page):
        file, _, heading = target.partition("#")
        there = ROOT / page if not file else (ROOT / page).parent / file
        assert there.exists(), target
        assert not heading or heading in anchors(there), target


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", ["README.md", "monai_advdef/README.md"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    image, label = blobs(2, size=32)
    for block in python(page):
        audited = "audit(" in block  # a case by itself, where an attack takes a batch
        known = {"network": small_unet(), "inferer": SimpleInferer()}
        known |= {"image": image[0], "label": label[0]} if audited else {"image": image, "label": label}
        exec(block.replace('output_dir="OUT")', 'output_dir="OUT", suite="smoke", checks=False)'), known)  # noqa: S102
        if audited:
            assert known["made"].card.is_file()
        else:
            assert known["outcome"].adversarial.shape == image.shape and float(known["outcome"].size.max()) <= 8.001


def runs(page: str) -> list[dict[str, str]]:
    """The options of every ``monai.bundle run`` of a page."""
    told = [words[words.index("run") + 1 :] for words in commands(page) if "monai.bundle" in words]
    return [dict(zip((name.removeprefix("--") for name in words[::2]), words[1::2])) for words in told]


@pytest.mark.slow
def test_what_the_pages_do_with_a_bundle_is_done(phantom_bundle, tmp_path, monkeypatch, store):
    """In small: few pixels, one epoch, and a suite of its first steps, of which the checks may think what they like."""
    monkeypatch.chdir(phantom_bundle.root)
    told = [*runs("README.md"), *runs("workflows/README.md")]
    distinct = [options for number, options in enumerate(told) if options not in told[:number]]
    assert len(distinct) >= 4
    for number, options in enumerate(distinct):
        out, training = tmp_path / str(number), options["config_file"] == "configs/train.yaml"
        weights = tmp_path / "models" if training else phantom_bundle.root / "models"
        small = {**SMALL, "dataset_dir": "phantom", "output_dir": str(out), "ckpt_dir": str(weights)}
        small |= {"train::trainer::max_epochs": 1, "val_interval": 1} if training else {}
        files = options.pop("config_file").replace("suites/standard", "suites/smoke")
        with suppress(*[Suspect] * ("/checks/" in files)):
            stock(config_file=files if training else ast.literal_eval(files), **{**options, **small})
        assert (weights / "model.pt").is_file() and (training or len(read_records(out / "records")))
