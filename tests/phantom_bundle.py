"""The skin bundle in a folder of its own with 24 phantom images and a victim that the stock command trained on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from monai_advdef.__main__ import main
from monai_advdef.bundle import bundles
from monai_advdef.study import Cell, evaluate

NAME = "skin_lesion_dermoscopy_segmentation"
SMALL = {"image_size": 64, "batch_size": 4}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def command(*words: str, cwd: Path, env: Mapping[str, str] = ENVIRONMENT) -> subprocess.CompletedProcess[str]:
    """``python -m ...`` in a process of its own."""
    return subprocess.run([sys.executable, "-m", *words], cwd=cwd, env=env, capture_output=True, text=True)


@dataclass(frozen=True)
class PhantomBundle:
    """A trained bundle: ``root`` holds configs/, models/model.pt and phantom/."""

    root: Path

    @property
    def log(self) -> str:
        """What the training said."""
        return (self.root / "training.log").read_text()

    @property
    def store(self) -> str:
        """One MLflow store for all evaluations: making a new one takes seconds."""
        return f"sqlite:///{self.root / 'output' / 'mlruns.db'}"

    @property
    def environment(self) -> dict[str, str]:
        """That of a process which tracks in :attr:`store`."""
        return {**ENVIRONMENT, "MLFLOW_TRACKING_URI": self.store}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``python -m ...`` in the bundle's folder, in a process of its own."""
        return command(*words, cwd=self.root, env=self.environment)

    def settings(self, output: Path) -> dict[str, Any]:
        folders = {"dataset_dir": self.root / "phantom", "output_dir": output, "ckpt_dir": self.root / "models"}
        return {**{k: str(v) for k, v in folders.items()}, **SMALL}

    def evaluate(self, output: Path, *overlays: str, **overrides: Any) -> dict[str, float]:
        """One cell in this process; ``attack__eps=4`` stands for the override ``attack_def::eps``."""
        told = {k.replace("__", "_def::"): v for k, v in overrides.items()}
        with patch.dict(os.environ, MLFLOW_TRACKING_URI=self.store):
            return evaluate(self.root, Cell(overlays, told), self.settings(output))

    def words(self, output: Path, *files: Path, **overrides: Any) -> list[str]:
        """The words of the stock command that evaluates with further configuration files."""
        configs = [f"configs/{n}.yaml" for n in ("train", "evaluate")] + [str(f) for f in files]
        told = {**self.settings(output), **overrides}
        return ["monai.bundle", "run", "--config_file", str(configs), *(w for k, v in told.items() for w in (f"--{k}", str(v)))]


def make(root: Path) -> PhantomBundle:
    """Copy the bundle to ``root`` and train it there; what the training said lies in ``root/training.log``."""
    for part in ("configs", "models"):
        shutil.copytree(bundles()[NAME] / part, root / part, ignore=shutil.ignore_patterns("*.pt", "*.ts"))
    assert main(["phantom", "skin", str(root / "phantom"), "--cases", "24"]) == 0
    words = "monai.bundle run --config_file configs/train.yaml --data::phantoms 24 --image_size 64 --batch_size 4 --val_interval 5"
    trained = command(*words.split(), "--train::trainer::max_epochs", "10", cwd=root)
    assert trained.returncode == 0, trained.stderr + trained.stdout
    (root / "training.log").write_text(trained.stdout + trained.stderr)
    return PhantomBundle(root)
