"""The oldest release of MONAI that is allowed trains and attacks a bundle; ``make test-oldest-monai`` runs all tests under it."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from distributions import ROOT, said
from packaging.requirements import Requirement

from monai_advdef.bundle import workflows
from monai_advdef.records import read_records

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
(OLDEST,) = re.findall(r"^OLDEST_MONAI := (\S+)$", MAKEFILE, re.MULTILINE)


def test_what_is_allowed_is_what_is_tested():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    asked = [Requirement(line) for line in setup["options"]["install_requires"].split("\n") if line.strip()]
    (monai,) = (r for r in asked if r.name == "monai")
    assert str(monai.specifier) == f">={OLDEST}"
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {r.name.lower(): str(r.specifier) for r in pins}
    assert {r.name for r in asked if r.name.lower() not in pinned} == {"pandas"}, (
        "the container takes the versions of constraints.txt"
    )
    assert all(re.fullmatch(r"==[\d.]+", told) for told in pinned.values())
    assert all(r.specifier.contains(pinned[r.name.lower()].removeprefix("==")) for r in asked if r.name != "pandas")
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"the two latest releases of MONAI, {OLDEST} and {pinned['monai'].removeprefix('==')}:" in told


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Path:
    """Python of an environment with the oldest MONAI, this checkout, and the other packages of this environment."""
    if version("monai") == OLDEST:
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("monai")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(said(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip())
    beside = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (site / "beside.pth").write_text("\n".join([str(ROOT), *beside]) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    told = subprocess.run([*pip, "--no-deps", "--ignore-installed", f"monai=={OLDEST}"], capture_output=True, text=True, timeout=300)
    if told.returncode:
        pytest.skip(f"monai {OLDEST} cannot be installed here: {told.stderr.strip().splitlines()[-1]}")
    assert said(python, "-c", "import monai; print(monai.__version__)", cwd=folder).strip() == OLDEST
    return python


@pytest.mark.slow
def test_a_bundle_is_trained_and_attacked(older, phantom_bundle, tmp_path, store):
    """By the overlays that ask most of MONAI: fields, which measure in mm, behind a defence, tracked."""
    files = [workflows()[name] for name in ("defenses/jpeg", "attacks/field_attack")]
    words = phantom_bundle.words(tmp_path / "out", *files, **{"attack_def::steps": 2})
    said(older, "-m", *words, cwd=phantom_bundle.root, MLFLOW_TRACKING_URI=store)
    rows = read_records(tmp_path / "out" / "records")
    assert len(set(rows["attack"])) == 1 and set(rows["defense"]) == {"JPEG(85, 4:2:0)"}
    assert (tmp_path / "out" / "card.html").is_file()
    root = Path(shutil.copytree(phantom_bundle.root / "configs", tmp_path / "trained" / "configs")).parent
    small = ["--image_size", 64, "--batch_size", 4, "--val_interval", 1, "--train::trainer::max_epochs", 1]
    data = ["--dataset_dir", phantom_bundle.root / "phantom"]
    said(
        older, "-m", "monai.bundle", "run", "--config_file", "configs/train.yaml", *small, *data, cwd=root, MLFLOW_TRACKING_URI=store
    )
    assert (root / "models" / "model.pt").is_file()
