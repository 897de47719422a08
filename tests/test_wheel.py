"""The wheel, installed in an environment of its own outside the checkout: its commands, and a bundle by MONAI's stock command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from distributions import ROOT, build, said
from phantom_bundle import NAME
from zoo import endoscopy

from monai_advdef.commands import VERBS
from monai_advdef.records import read_records

pytestmark = pytest.mark.slow
SMOKE = {"overlay": "suites/smoke", "checks": False}


class Installed:
    """An environment with the wheel and, of this one, the packages that it requires."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        site = Path(said(self.python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip())
        # of these folders the .pth files, such as that of an editable install, do nothing here
        required = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
        (site / "required.pth").write_text("\n".join(required) + "\n")
        pip = ["--python", self.python, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
        said(sys.executable, "-m", "pip", "--disable-pip-version-check", *pip, wheel, cwd=folder)
        self.package = site / "monai_advdef"

    def __call__(self, *words: object, cwd: Path, **environment: str) -> str:
        return said(self.bin / "monai-advdef", *words, cwd=cwd, **environment)


@pytest.fixture(scope="module")
def installed(once, tmp_path_factory) -> Installed:
    (wheel,) = (once("distributions", build) / "dist").glob("*.whl")
    return Installed(wheel, tmp_path_factory.mktemp("wheel"))


def test_the_package_is_the_one_of_the_wheel(installed, tmp_path):
    where = said(installed.python, "-c", "import monai_advdef; print(monai_advdef.__file__)", cwd=tmp_path).strip()
    assert Path(where) == installed.package / "__init__.py"


def test_every_file_that_is_no_code_travels_too(installed):
    for name, kinds in {"bundles": None, "workflows": (".yaml",), "monai_advdef": (".json", ".j2", ".css", ".js", ".typed")}.items():
        root, there = ROOT / name, installed.package if name == "monai_advdef" else installed.package / name
        listed = subprocess.run(["git", "ls-files", "-z", name], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
        files = [Path(f).relative_to(name) for f in listed if f and (kinds is None or Path(f).suffix in kinds)]
        kept = [f for f in files if f.parts[1:2] != ("models",) and (root / f).is_file()]
        assert [str(f) for f in kept if not (there / f).is_file()] == []


def test_list_names_bundles_and_overlays_of_the_package(installed, tmp_path):
    told = installed("list", cwd=tmp_path)
    assert NAME in told and "\n  pgd " in told
    for kind in ("bundles", "workflows"):
        assert Path(installed("list", "--where", kind, cwd=tmp_path).strip()) == installed.package / kind


def test_each_verb_runs(installed, tmp_path, store):
    """From a folder outside the checkout, on files that the verbs before it made; ``list`` and ``demo`` have tests of their own."""

    def shown(*words: object) -> str:
        done.add(words[0])
        return installed(*words, cwd=tmp_path, MLFLOW_TRACKING_URI=store)

    done: set[object] = {"list", "demo"}
    shown("phantom", "skin", "images", "--cases", 12)
    assert "task skin" in shown("check", "images")
    patterns = ["--images", "images/{case}.jpg", "--masks", "masks/{case}.png", "--values", "0=0,255=1"]
    assert "9 cases" in shown("prepare", "images", "prepared", "--task", "skin", *patterns)
    bundle, data = endoscopy.build(tmp_path)
    quick = ["--suite", "smoke", "--no_checks", "--limit", 2]
    for out in ("one", "two"):
        shown("audit", bundle, "--dataset_dir", data, *quick, "--output_dir", out)
    shown("report", "one", "--evidence")
    shown("compare", "one", "two")
    if "sweep" in VERBS:
        study = {
            "models": {"tool": str(bundle)},
            "data": {"few": {"dataset_dir": str(data), "limit": 2}},
            "attacks": ["clean", SMOKE],
        }
        (tmp_path / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
        shown("sweep", "study.yaml", "--output_dir", "swept")
        assert len(list((tmp_path / "swept").rglob("records/*.parquet"))) >= 2
    assert (tmp_path / "compare.html").is_file() and (tmp_path / "one" / "evidence.html").is_file()
    assert done == set(VERBS), "a verb that was never run from a wheel"


def test_a_bundle_is_trained_and_attacked_in_a_folder_of_its_own(installed, tmp_path, store):
    root = Path(shutil.copytree(installed.package / "bundles" / NAME, tmp_path / "skin"))
    overlays = Path(installed("list", "--where", "workflows", cwd=tmp_path).strip())
    run = [installed.python, "-m", "monai.bundle", "run", "--data::phantoms", 12, "--image_size", 32, "--batch_size", 4]
    small = ["--train::trainer::max_epochs", 1, "--val_interval", 1]
    said(*run, *small, "--config_file", "configs/train.yaml", cwd=root, MLFLOW_TRACKING_URI=store)
    assert (root / "models" / "model.pt").is_file()
    files = ["configs/train.yaml", "configs/evaluate.yaml", str(overlays / "attacks" / "fgsm.yaml")]
    said(*run, "--config_file", files, cwd=root, MLFLOW_TRACKING_URI=store)
    assert set(read_records(root / "output" / "records")["attack"]) == {"FGSM"} and (root / "output" / "card.html").is_file()


def test_the_demonstration_runs(installed, tmp_path, store):
    """Whole, in small: the command has the number of epochs alone as an option."""
    small = "from monai_advdef.demo import demo; demo('demo', epochs=1, phantoms=24, image_size=32)"
    told = said(installed.python, "-c", small, cwd=tmp_path, MLFLOW_TRACKING_URI=store)
    assert "card.html" in told.replace("\n", ""), "however the terminal breaks a long path"
    assert len(set(read_records(tmp_path / "demo" / "output" / "records")["fingerprint"])) > 20
