"""The source distribution and the wheel of the project, built once for all tests that look at them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from phantom_bundle import ENVIRONMENT

ROOT = Path(__file__).parents[1]
MADE_HERE = (
    ".git",
    ".venv*",
    "build",
    "dist",
    "demo",
    "mlruns",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    ".coverage*",
)
LEFT_BY_BUNDLES = ("*.pt", "*.ts", "output", "phantom", "converted", "eval")


def said(*words: object, cwd: Path, **environment: str) -> str:
    """What a process prints that ends well."""
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(folder: Path) -> None:
    """Both distributions into ``folder``; the wheel is made of the unpacked source distribution, as an index's users make it."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*MADE_HERE, *LEFT_BY_BUNDLES), symlinks=True)
    (folder / "build.log").write_text(
        said(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder), encoding="utf-8"
    )
    shutil.rmtree(source)
