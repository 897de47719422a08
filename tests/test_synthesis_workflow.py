"""The generator trained on a bundle by its overlay, resumed, and used as an attack: what the commands of the documentation do."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from generators import SMALL

from monai_advdef.bundle import workflows
from monai_advdef.records import read_records
from monai_advdef.study import workflow
from monai_advdef.synthesis import SynthesisObjective

LITTLE = {f"generator_def::{name}": value for name, value in SMALL.items()}
LITTLE |= {"critic_def::channels": [8, 16], "critic_steps": 1, "synthesis_batch_size": 6, "xi": 1.0, "generator_rate": 0.003}


def train(bundle, folder: Path, epochs: int) -> SynthesisObjective:
    files = [bundle.root / "configs" / "train.yaml", workflows()["training/synthesis"]]
    told = {**bundle.settings(folder), **LITTLE, "synthesis_dir": str(folder / "generator"), "synthesis_epochs": epochs}
    told |= {"synthesis::trainer::decay": 0.9, "synthesis::objective::divergence_weight": 0}
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=bundle.store):
        made = workflow(bundle.root, files, told)
        made.run()
    return made.parser.get_parsed_content("synthesis::trainer").objective


@pytest.mark.slow
def test_generator_is_trained_resumed_and_attacks(phantom_bundle, tmp_path):
    before = (phantom_bundle.root / "models" / "model.pt").read_bytes()
    train(phantom_bundle, tmp_path, 1)
    assert train(phantom_bundle, tmp_path, 2) == SynthesisObjective(xi=1.0, decay=0.9, divergence_weight=0)
    state = torch.load(tmp_path / "generator" / "training.pt", weights_only=True)
    assert state["epoch"] == 2
    assert (phantom_bundle.root / "models" / "model.pt").read_bytes() == before
    weights = str(tmp_path / "generator" / "generator.pt")
    phantom_bundle.evaluate(tmp_path, "attacks/synthesis", attack__weights=weights, record__gallery=False, record__card=False)
    table = read_records(tmp_path / "records")
    assert (table["attack"] == "synthesis (both)").all() and (table["norm"] == "unbounded").all()
    values = table.set_index(["class", "metric"])["value"]
    assert (values["image", "min_jacobian"] > 0).all() and (values["image", "perceptibility"] > 0).all()
    assert {"clean_dice", "warped_dice", "motion_dice", "dice"} <= set(table.query("`class` != 'image'")["metric"])
