"""The how-to pages of the audit: their commands are run on a small bundle, their Python on a small network."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo import endoscopy

from monai_advdef.__main__ import main
from monai_advdef.commands import parser

PAGES = Path(__file__).parents[1] / "workflows" / "audit"
QUICK = ["--suite", "smoke", "--no_checks"]


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlruns.db'}")
        patch.chdir(folder)
        bundle, data = endoscopy.build(folder)
        bundle.rename("BUNDLE")
        Path("MODEL").symlink_to("BUNDLE")  # what the first page calls it
        shutil.copytree(data, "DATA")
        yield folder


@pytest.mark.parametrize("page", ["README.md", "ci.md", "../../README.md"])
def test_the_commands_of_a_page_run(folder, page):
    words = [
        shlex.split(line, comments=True)
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("monai-advdef")
    ]
    assert words
    for _, *given in words:
        if given[0] == "compare":
            for name in given[1:3]:
                shutil.copytree("OUT", name)
        assert main([*given, *(QUICK if given[0] == "audit" else [])]) == 0, given


def test_the_command_for_nnunet_is_one_and_its_extra_is_declared():
    (block,) = blocks("nnunet.md", "bash")
    install, audit = block.splitlines()
    assert parser().parse_args(shlex.split(audit)[1:]).verb == "audit"
    assert re.search(r"^nnunet =$", (PAGES.parents[1] / "setup.cfg").read_text(), re.MULTILINE) and "[nnunet]" in install


def test_the_python_of_a_page_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    discs = [((np.mgrid[:32, :32] - np.array([14 + i, 16])[:, None, None]) ** 2).sum(0) < 60 for i in range(2)]
    images = [(100 + 60 * m).astype(np.float32)[None] for m in discs]
    files = []
    for i, (image, mask) in enumerate(zip(images, discs)):
        for kind, x in (("image", image[0]), ("label", mask)):
            Image.fromarray(x.T.astype(np.uint8)).save(tmp_path / f"{kind}{i}.png")
        files.append({"case": f"c{i}", "image": str(tmp_path / f"image{i}.png"), "label": str(tmp_path / f"label{i}.png")})

    def network(scale: float) -> nn.Module:
        made = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            made.weight[:] = torch.tensor([-scale, scale]).reshape(2, 1, 1, 1)
            made.bias[:] = torch.tensor([1.0, -1.0]) * scale * 130 / (255 if scale > 1 else 1)
        return made

    data = [(f"c{i}", image, mask[None].astype(np.uint8)) for i, (image, mask) in enumerate(zip(images, discs))]
    known = {"network": network(0.1), "scaled_network": network(20.0), "data": data, "files": files}
    for block in blocks("module.md", "python"):
        exec(block.replace('output_dir="OUT")', 'output_dir="OUT", suite="smoke", checks=False)'), known)  # noqa: S102
    assert known["made"].card.is_file() and known["made"].folder.name == "OUT2"


@pytest.mark.parametrize("page", sorted(p.name for p in PAGES.glob("*.md")))
def test_what_a_page_links_to_is_there_and_its_options_are_known(page):
    text = (PAGES / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGES / target).exists(), target
    known = {*parser().options(), "--config_file"}
    for name in re.findall(r"`--([a-z_]+)", text):
        assert f"--{name}" in known, name
