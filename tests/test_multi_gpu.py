"""Training in two processes by torchrun (Gloo, CPU) against one process on the joint batch."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest.mock import patch

import pytest
import torch
from monai.bundle import ConfigParser
from phantom_bundle import NAME, PhantomBundle

from monai_advdef.bundle import bundles, workflows
from monai_advdef.study import workflow

OVERLAY = workflows()["training/adversarial_online"]
EPOCHS = 2
TOLD = {  # one batch holds all four cases; instance norm, since batch norm would see half of them in each process
    "train::augmentation": [],
    "network_def::norm": "instance",
    "network_def::channels": [4, 8],
    "train::optimizer::_target_": "torch.optim.SGD",
    "train::dataset::data": "$@data['train'][:4]",
    "attack_def::attack": "FGSM",
    "adversarial_prob": 1,
    "attack_def::random_eps": False,
    "val_interval": EPOCHS,
    "train::trainer::max_epochs": EPOCHS,
    "image_size": 32,
}


@pytest.mark.parametrize("bundle", [b for b, home in bundles().items() if (home / "configs" / "multi_gpu_train.yaml").exists()])
def test_only_what_writes_is_left_to_the_first_process(bundle):
    """An attack, or any other handler that changes the training, must run in every process."""
    parser = ConfigParser()
    configs = bundles()[bundle] / "configs"
    parser.read_config([configs / "train.yaml", configs / "multi_gpu_train.yaml", OVERLAY])
    kinds = {True: [], False: []}
    for section in ("train", "validate"):
        for handler in parser[f"{section}::handlers"]:
            rank = "get_rank" in str(handler.get("_disabled_")) if isinstance(handler, dict) else False
            kinds[rank].append(handler["_target_"].split(".")[-1] if isinstance(handler, dict) else handler)
    assert sorted(kinds[True]) == ["CheckpointSaver", "StatsHandler", "StatsHandler", "TrainingTracker"]
    assert kinds[False][:2] == ["LrScheduleHandler", "ValidationHandler"] and "@attack_def" in kinds[False]


@pytest.mark.slow
def test_two_processes_train_as_one_does_on_the_joint_batch(phantom_bundle: PhantomBundle, tmp_path):
    configs = bundles()[NAME] / "configs"
    files = [configs / "train.yaml", configs / "multi_gpu_train.yaml", OVERLAY]
    one, two = tmp_path / "one", tmp_path / "two"
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        told = {**phantom_bundle.settings(one), **TOLD, "ckpt_dir": str(one), "batch_size": 4}
        workflow(phantom_bundle.root, [files[0], OVERLAY], told).run()
    told = {**phantom_bundle.settings(two), **TOLD, "ckpt_dir": str(two), "batch_size": 2}
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
    words += ["--config_file", str([str(f) for f in files]), *(w for k, v in told.items() for w in (f"--{k}", str(v)))]
    done = subprocess.run(
        ["nice", "-n", "19", sys.executable, *words],
        cwd=phantom_bundle.root,
        env=phantom_bundle.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ours, theirs = (torch.load(p / "adversarial_online" / "model.pt", weights_only=True) for p in (two, one))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
