"""The source distribution and the wheel: what an index says of them, what they hold, and that the first passes its own tests."""

from __future__ import annotations

import configparser
import email
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from distributions import ROOT, build, said

from monai_advdef import __version__
from monai_advdef.bundle import bundles

pytestmark = pytest.mark.slow
QUICK = ("tests/test_house.py", "tests/test_api_surface.py", "tests/test_stats.py", "tests/contracts/test_06_eps_zero.py")


def test_bundles_ask_for_this_version():
    for name, folder in bundles().items():
        about = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        assert about["required_packages_version"]["monai_advdef"] == __version__, name


@pytest.fixture(scope="module")
def built(once) -> Path:
    return once("distributions", build)


@pytest.fixture(scope="module")
def sdist(built, tmp_path_factory) -> Path:
    """The source distribution, unpacked."""
    (file,) = (built / "dist").glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(file) as packed:
        packed.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def test_an_index_would_take_both(built, tmp_path):
    pytest.importorskip("twine", reason="twine is not installed: pip install twine, or make venv")
    files = sorted((built / "dist").iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    told = said(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=tmp_path, COLUMNS="500")
    assert told.count("PASSED") == 2 and "warning" not in told.lower()


def test_the_wheel_says_what_setup_says(built):
    (file,) = (built / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as packed:
        names = packed.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = email.message_from_string(packed.read(metadata).decode("utf-8"))
        version = packed.read("monai_advdef/__init__.py").decode("utf-8")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert about["Version"] == setup["metadata"]["version"] and f'__version__ = "{about["Version"]}"' in version
    assert "Apache-2.0" in (about["License-Expression"], about["License"]) and any(
        name.endswith("licenses/LICENSE") for name in names
    )
    assert set(about.get_all("Provides-Extra")) == set(setup["options.extras_require"])
    assert "monai_advdef/py.typed" in names
    assert not [name for name in names if name.split("/")[0] in ("tests", "tools", "benchmarks", "docker", "docs")]


def test_the_source_distribution_holds_what_a_checkout_does(sdist):
    tracked = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "api_surface.json",
        "constraints.txt",
        "setup.cfg",
    }
    assert tracked | {"pyproject.toml", "MANIFEST.in", ".dockerignore", ".gitignore", ".ci"} <= {p.name for p in sdist.iterdir()}
    for folder in ("tests", "tools", "workflows", "bundles", "docker", "docs", "examples", "benchmarks", "monai_advdef"):
        kinds = (".py", ".md", ".yaml", ".json", ".sh", ".png", ".j2", ".css", ".js", ".typed")
        listed = [p for p in (ROOT / folder).rglob("*") if p.suffix in kinds]
        kept = [p.relative_to(ROOT) for p in listed if not {"output", "phantom", "converted", "eval"} & set(p.parts)]
        assert [str(p) for p in kept if not (sdist / p).is_file()] == []
    assert not list(sdist.rglob("*.pyc")) and not list(sdist.rglob("*.pt"))


def test_the_source_distribution_passes_its_own_tests(sdist):
    """The quick ones; ``make test`` in the unpacked folder runs all of them."""
    where = said(sys.executable, "-c", "import monai_advdef; print(monai_advdef.__file__)", cwd=sdist, PYTHONPATH=str(sdist)).strip()
    assert Path(where) == sdist / "monai_advdef" / "__init__.py"
    told = said(
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n0", *QUICK, cwd=sdist, PYTHONPATH=str(sdist), CI=""
    )
    assert " passed" in told and "failed" not in told
