"""A small study of the phantom bundle, and what its folder holds: what the tests of sweeps share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from phantom_bundle import ENVIRONMENT, SMALL, PhantomBundle

from monai_advdef.records import read_records, unfinished

QUICK = {"overlay": "attacks/pgd", "options": {"steps": 3}, "checks": False}


def study_file(bundle: PhantomBundle, folder: Path, **changes) -> Path:
    """Two cells, clean and under a short attack, on the three test images."""
    told = {
        "name": "small",
        "models": {"unet": {"model": str(bundle.root), "settings": dict(SMALL)}},
        "data": {"test": {"dataset_dir": str(bundle.root / "phantom")}},
        "attacks": ["clean", QUICK],
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file


def start(study: Path, output: Path, *words: str, log: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    out = subprocess.PIPE if log is None else open(log, "a")  # noqa: SIM115
    words = (sys.executable, "-m", "monai_advdef", "sweep", str(study), "--output_dir", str(output), *words)
    given = {**ENVIRONMENT, "TERM": "dumb", "COLUMNS": "200", **environment}
    return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, text=True, env=given, start_new_session=os.name == "posix")


def tables(output: Path) -> dict[str, pd.DataFrame]:
    """Every file of the records, without the column that measures time."""
    return {path.name: read_records(path).drop(columns="seconds") for path in sorted((output / "records").glob("*.parquet"))}


def require_equal(found: Path, expected: Path) -> None:
    """The same files with the same digits, and nothing left half made."""
    ours, theirs = tables(found), tables(expected)
    assert ours.keys() == theirs.keys() and ours
    for name, table in ours.items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True)
    left = [path for path in found.rglob("*") if path.suffix in (".tmp", ".lock", ".part")]
    assert not left and not unfinished(found / "records"), left
