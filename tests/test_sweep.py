"""The sweep over networks and budgets, run on a small bundle."""

from __future__ import annotations

import os
import shutil
from unittest.mock import patch

import pandas as pd
import pytest
import torch

from monai_advdef.papers import Sweep
from monai_advdef.papers.network_study import paper_steps
from monai_advdef.records import read_records

NETWORKS = [
    {"name": "UNet + NLCE", "options": {"network": "unet", "nlce": True}, "twin": "UNet"},
    {"name": "UNet", "options": {"network": "unet"}},
    {"name": "UNet, trained on", "options": {"network": "unet"}, "start": "UNet", "settings": {"learning_rate": 1e-9}},
]
ATTACKS = [
    {
        "name": "targeted i-FGSM",
        "overlay": "attacks/tifgsm",
        "eps": [1, 4],
        "options": {"target": "inverted", "rule": "grey_level"},
    },
    {"name": "PGD margin", "overlay": "attacks/pgd", "eps": [4], "times": 2, "step": 0.5, "options": {"objective": "margin"}},
    {
        "name": "transfer",
        "overlay": "attacks/pgd",
        "eps": [4],
        "times": 2,
        "step": 0.5,
        "source": "twin",
        "options": {"objective": "margin"},
    },
]


@pytest.fixture(scope="module")
def swept(phantom_bundle, tmp_path_factory):
    """A sweep over the bundle's UNet and the same with an NLCE trained for one epoch, and itself trained on."""
    root = tmp_path_factory.mktemp("sweep")
    (root / "models" / "unet" / "seed0").mkdir(parents=True)
    shutil.copy(phantom_bundle.root / "models" / "model.pt", root / "models" / "unet" / "seed0")
    settings = {**phantom_bundle.settings(root / "output"), "ckpt_dir": str(root / "models"), "train::trainer::max_epochs": 1}
    settings["val_interval"] = 1
    cache = {"cache_dir": str(root / "adversarial")}
    attacks = [{**a, "options": {**a["options"], **cache}} for a in ATTACKS]
    sweep = Sweep(
        name="small",
        title="Small",
        note="A note.",
        bundle_root=phantom_bundle.root,
        settings=settings,
        networks=NETWORKS,
        attacks=attacks,
    )
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        return root, sweep, sweep.run()


@pytest.mark.slow
def test_page_figures_and_records(swept):
    root, sweep, path = swept
    page = path.read_text()
    assert page.startswith("## Small\n\nA note.") and "UNet + NLCE − UNet" in page and "transfer" in page
    for name in ("small_dic.png", "small_jsc.png", "small_pairs.png"):
        assert (root / "output" / name).stat().st_size > 10_000
    summary = pd.read_csv(root / "output" / "small.csv")
    records = read_records(root / "output" / "records")
    dice = records[(records["metric"] == "dice") & (records["model"] == "UNet") & (records["attack"] == "none")]["value"].mean()
    row = summary[(summary["network"] == "UNet") & (summary["attack"] == "clean") & (summary["metric"] == "dice")]
    assert row["mean"].item() == pytest.approx(dice)
    assert set(records["attack"]) == {"none", "ti-FGSM to inverted", "PGD margin", "PGD margin from UNet"}
    assert set(records[records["attack"] == "PGD margin"]["steps"]) == {2 * paper_steps(4.0)}


@pytest.mark.slow
def test_training_goes_on_from_what_it_starts_from(swept):
    root, _, _ = swept
    start, further, fresh = (
        torch.load(root / "models" / n / "seed0" / "model.pt", weights_only=True) for n in ("unet", "unet_trained_on", "unet_nlce")
    )
    weights = [name for name in start if name.endswith("weight")]
    assert all(torch.allclose(further[name], start[name], atol=1e-6) for name in weights)
    assert any(name in fresh and not torch.allclose(fresh[name], start[name], atol=1e-3) for name in weights)


@pytest.mark.slow
def test_run_again_it_crafts_and_trains_nothing(swept, phantom_bundle):
    root, sweep, path = swept
    files = [*(root / "adversarial").iterdir(), *root.glob("models/*/seed0/model.pt")]
    before, page = {f: f.stat().st_mtime_ns for f in files}, path.read_text()
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        sweep.run()
    assert {f: f.stat().st_mtime_ns for f in before} == before and path.read_text() == page


def test_wrong_lists_are_refused(tmp_path):
    options = {"name": "x", "title": "X", "bundle_root": tmp_path, "settings": {}, "attacks": ATTACKS}
    with pytest.raises(ValueError, match="twin of 'UNet [+] NLCE' names no network of the list: .*'UNet'"):
        Sweep(**options, networks=[{**NETWORKS[0], "twin": "UNnet"}, NETWORKS[1]])
    with pytest.raises(ValueError, match="share a name"):
        Sweep(**options, networks=[NETWORKS[1], NETWORKS[1]])


@pytest.mark.parametrize(("eps", "steps"), [(0.5, 1), (1, 2), (4, 5), (8, 10), (12, 15), (14, 18), (16, 20), (32, 36)])
def test_steps_of_the_paper(eps, steps):
    assert paper_steps(eps) == steps
