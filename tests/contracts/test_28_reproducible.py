"""Promise 28: same seed, same table; the batch size does not change it; kill and resume gives identical records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from engines import evaluator, network

from monai_advdef.attacks import run_sweep
from monai_advdef.bundle import workflows
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.records import read_records, unfinished

ATTACKS = {
    "noise": {"attack": "Noise"},
    "PGD": {"attack": "PGD", "steps": 5, "restarts": 2},
    "PGD in l2": {"attack": "PGD", "steps": 5, "step_size": None, "norm": "l2", "eps": 300.0},
    "Square": {"attack": "Square", "queries": 6},
    "minimal norm": {"attack": "MinimalNorm", "steps": 5},
    "VAFA": {"attack": "VAFA", "steps": 2, "norm": "unbounded"},
    "targeted": {"attack": "PGD", "steps": 3, "target": "invent 0.2"},
    "ASMA": {"attack": "ASMA", "steps": 10, "tau": 1e-4, "norm": "unbounded"},
}


def table(trained, folder, batch_size, **options):
    attack = AttackHandler(**options)
    records = RecordHandler(folder, ["lesion"], attack=attack, card=False, gallery=False)
    evaluate(evaluator(network(trained), [records, attack], batch_size=batch_size), attack, records)
    return read_records(folder / "records").drop(columns="seconds")


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_table_whatever_the_batch_size(trained, tmp_path, name):
    """To the last bit, but that convolutions of a single image may round in another order: then to 1e-5."""
    first, again, four, alone = (table(trained, tmp_path / str(i), b, **ATTACKS[name]) for i, b in enumerate((3, 3, 4, 1)))
    assert first.equals(again) and first.equals(four)
    pd.testing.assert_frame_equal(first, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["noise", "PGD"])
def test_another_seed_another_table(trained, tmp_path, name):
    one, two = (table(trained, tmp_path / str(s), 3, **ATTACKS[name], seed=s) for s in (0, 1))
    assert (one["l2"] != two["l2"]).all() and (one["fingerprint"] != two["fingerprint"]).all()


@pytest.mark.slow
def test_killed_bundle_run_is_resumed_with_identical_records(phantom_bundle, tmp_path, monkeypatch):
    """The stock command is killed amid its cases; the same evaluation again ends with the table of an undisturbed run."""
    slow = {"attack__steps": 40, "batch_size": 1}
    phantom_bundle.evaluate(tmp_path / "whole", "attacks/pgd", **slow)
    words = phantom_bundle.words(tmp_path / "cut", workflows()["attacks/pgd"], **{"attack_def::steps": 40, "batch_size": 1})
    crafted = tmp_path / "cut" / "adversarial" / "_unfinished"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=phantom_bundle.root, env=phantom_bundle.environment, stdout=log, stderr=log
        )
        while process.poll() is None and len(list(crafted.glob("*.npz"))) < 2:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    done = len(list(crafted.glob("*.npz")))
    attacked: list[int] = []

    def counted(attack, victim, threats, image, *given, **named):
        attacked.extend([1] * len(image))
        return run_sweep(attack, victim, threats, image, *given, **named)

    monkeypatch.setattr("monai_advdef.handlers.attack.run_sweep", counted)
    assert len(unfinished(tmp_path / "cut" / "records")) == 1 and not list((tmp_path / "cut" / "records").glob("*.parquet"))
    phantom_bundle.evaluate(tmp_path / "cut", "attacks/pgd", **slow)
    whole, resumed = (read_records(tmp_path / n / "records").drop(columns="seconds") for n in ("whole", "cut"))
    assert whole.equals(resumed) and whole["case"].nunique() - done == len(attacked) > 0
    assert not crafted.parent.exists(), "dropped, as it is finished"
