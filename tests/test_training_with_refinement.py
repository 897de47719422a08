"""Frequency Refinement as training augmentation: an overlay of training, for every two-dimensional bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from monai.bundle import ConfigParser
from phantom_bundle import PhantomBundle

from monai_advdef.bundle import bundles, workflows
from monai_advdef.defenses import FrequencyRefinement
from monai_advdef.study import workflow

OVERLAY = workflows()["training/frequency_refinement"]


def is_planar(bundle: Path) -> bool:
    """Whether the network of a bundle takes images, not volumes."""
    about = json.loads((bundle / "configs" / "metadata.json").read_text())
    return len(about["network_data_format"]["inputs"]["image"]["spatial_shape"]) == 2


PLANAR = [name for name, bundle in bundles().items() if is_planar(bundle)]


@pytest.mark.parametrize("prob", [0.0, 1.0])
@pytest.mark.parametrize("name", PLANAR)
def test_the_last_step_refines_the_image_in_image_units(name, prob):
    parser = ConfigParser()
    parser.read_config([bundles()[name] / "configs" / "train.yaml", OVERLAY])
    parser["refine_prob"] = prob
    plain = ConfigParser()
    plain.read_config(bundles()[name] / "configs" / "train.yaml")
    *before, last = parser.get_parsed_content("train::augmentation")
    assert len(before) == len(plain["train::augmentation"])
    x = 255 * torch.rand(3, 40, 36, generator=torch.Generator().manual_seed(0))
    data = {"image": x, "label": x[:1]}
    out = last(data)
    assert torch.equal(out["label"], data["label"])
    assert torch.equal(out["image"].as_tensor(), FrequencyRefinement()(x[None])[0] if prob else x)


@pytest.mark.parametrize("name", PLANAR)
def test_only_the_folder_of_the_weights_changes(name):
    parser, plain = ConfigParser(), ConfigParser()
    parser.read_config([bundles()[name] / "configs" / "train.yaml", OVERLAY])
    plain.read_config(bundles()[name] / "configs" / "train.yaml")
    ours, theirs = (p["validate::handlers"] for p in (parser, plain))
    savers = [h for h in ours if h["_target_"] == "CheckpointSaver"]
    assert [h["save_dir"] for h in savers] == ["$path('ckpt_dir', @ckpt_dir) + '/trained_with_fr'"]
    assert [{**h, "save_dir": 0} for h in ours] == [{**h, "save_dir": 0} for h in theirs], "no other handler is touched"
    assert parser["validate::preprocessing"] == plain["validate::preprocessing"], "validation sees plain images"


def test_one_epoch_on_phantoms_leaves_the_clean_model_alone(phantom_bundle: PhantomBundle, tmp_path):
    models = phantom_bundle.root / "models"
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in models.iterdir() if p.is_file()}
    settings = {**phantom_bundle.settings(tmp_path), "val_interval": 1, "train::trainer::max_epochs": 1}
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        workflow(phantom_bundle.root, [phantom_bundle.root / "configs" / "train.yaml", OVERLAY], settings).run()
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in models.iterdir() if p.is_file()} == before
    assert [p.name for p in (models / "trained_with_fr").iterdir()] == ["model.pt"]
    trained = {"ckpt_dir": str(models / "trained_with_fr")}
    evaluated = workflow(
        phantom_bundle.root,
        [phantom_bundle.root / "configs" / f"{n}.yaml" for n in ("train", "evaluate")],
        {**phantom_bundle.settings(tmp_path / "evaluated"), **trained},
    )
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        evaluated.run()
    assert 0 <= evaluated.evaluator.state.metrics["val_dice"] <= 1
