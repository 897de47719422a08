"""The workflows of paper 002 on a few slices, from no weights to their pages: what the commands of the documentation do."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from generators import SMALL
from PIL import Image

from monai_advdef.bundle import bundles, workflows
from monai_advdef.data import write_abdomen_phantoms
from monai_advdef.study import workflow

pytestmark = pytest.mark.slow

NAME = "abdominal_organ_ct_segmentation"
TRAINING = {f"generator_def::{name}": value for name, value in SMALL.items()}
TRAINING |= {"critic_def::channels": [8], "critic_steps": 1, "synthesis::handlers::0::interval": 1, "generator_rate": 0.01}
QUICK = {
    "image_size": 32,
    "patch_size": (32, 32),
    "channels": (4, 8),
    "residual": False,
    "samples": 1,
    "batch_size": 2,
    "val_interval": 1,
    "train::trainer::max_epochs": 1,
    "device": "$torch.device('cpu')",
    "synthesis_epochs": 2,
}


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory, store):
    """The bundle in a folder of its own, four patients with two slices each."""
    root = tmp_path_factory.mktemp("abdomen") / NAME
    shutil.copytree(bundles()[NAME], root, ignore=shutil.ignore_patterns("*.pt", "output", "phantom"))
    rng, lines, split = np.random.default_rng(0), ["image,patient,slice"], ["case,section"]
    for part in ("images", "masks"):
        (root / "png" / part).mkdir(parents=True)
    for case in range(8):
        mask = np.kron(rng.integers(0, 4, (4, 4)), np.ones((8, 8))).astype(np.uint8)
        grey = (60 + 40 * mask + rng.integers(0, 20, mask.shape)).astype(np.uint8)
        for part, pixels in (("images", grey), ("masks", mask)):
            Image.fromarray(pixels).save(root / "png" / part / f"s{case}.png")
        lines.append(f"s{case}.png,p{case // 2},{case % 2}")
        split.append(f"s{case},{('train', 'validation', 'test', 'test')[case // 2]}")
    (root / "png" / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "png" / "split.csv").write_text("\n".join(split) + "\n")
    return root


def carry_out(root, data: str, name: str, study: str, **options) -> str:
    """Run a workflow of the paper and return its page."""
    files = [root / "configs" / "train.yaml", root / "configs" / "evaluate.yaml", workflows()[f"papers/synthesis/{name}"]]
    told = {"dataset_dir": str(root / data), "output_dir": str(root / f"out_{data}"), "ckpt_dir": str(root / f"models_{data}")}
    told |= {**QUICK, f"{study}::training": TRAINING, f"{study}::fields::steps": 2, **options}
    workflow(root, files, told).run()
    return (root / f"out_{data}" / f"synthesis_{name}.md").read_text()


def test_table_1_from_no_weights_at_all(abdomen):
    page = carry_out(abdomen, "png", "table1", "table", xis=[2], checkpoints=2, factors=[8])
    assert "n = 2 patients, 4 images" in page and "the mean over the last 2 that its training kept" in page
    assert (
        "| generator, ξ = 2 |" in page
        and "| field attack, ξ = 2 |" in page
        and "field attack at equal perceptibility, ξ = 2" in page
    )
    assert "displacement, pixels" in page and "grey levels" in page and "*the paper, ξ = 2*" in page
    assert "**Drops of 30 % or more**" in page and "the paper's claim" in page
    numbers = pd.read_csv(abdomen / "out_png" / "synthesis_table1.csv")
    assert set(numbers["organ"]) == {"pancreas", "kidneys", "liver"} and len(numbers) == 3 * 3
    assert (numbers["min_jacobian"] > 0).all() and numbers["clean"].groupby(numbers["organ"]).nunique().eq(1).all()
    kept = sorted(p.name for p in (abdomen / "models_png" / "synthesis" / "both_xi2").iterdir())
    assert kept == ["generator.pt", "generator_epoch_1.pt", "generator_epoch_2.pt", "training.pt"]


def test_ablation_goes_on_from_there(abdomen):
    trained = abdomen / "models_png" / "synthesis" / "both_xi2" / "training.pt"
    before = trained.stat().st_mtime_ns
    page = carry_out(abdomen, "png", "ablation", "table", checkpoints=1, factors=[])
    assert "generator, ξ = 2, deformation only" in page and "**Components.** At ξ = 2" in page
    numbers = pd.read_csv(abdomen / "out_png" / "synthesis_ablation.csv").set_index(["kind", "parts"])
    assert (numbers.loc[("generator", "intensity"), "displacement_max_mm"] == 0).all()
    assert (numbers.loc[("field attack", "deformation"), "intensity_max"] == 0).all()
    assert trained.stat().st_mtime_ns == before


def test_figures_of_volumes(abdomen):
    write_abdomen_phantoms(abdomen / "nifti", cases=3, spacing=(12, 12, 12))
    sections = zip(range(3), ("train", "validation", "test"))
    (abdomen / "nifti" / "split.csv").write_text("case,section\n" + "".join(f"phantom_{i:04d},{s}\n" for i, s in sections))
    told = {"patch_size": (16, 16, 1), "spacing": None, "batch_size": 1, "xis": [2], "alone": None, "checkpoints": 1}
    training = {**TRAINING, "spatial_dims": 3, "synthesis_batch_size": 1}
    page = carry_out(abdomen, "nifti", "figures", "figures", **told, **{"figures::training": training})
    for kind in ("generator", "field attack"):
        assert f"![phantom_0002, {kind} at ξ = 2 (median loss under the generator, ξ = 2)]" in page
    for kind in ("generator", "field_attack"):
        with Image.open(abdomen / "out_nifti" / f"synthesis_figures_phantom_0002_{kind}.png") as drawn:
            assert drawn.size[0] > 1000
    assert (abdomen / "out_nifti" / "synthesis_figures_curves.png").exists()


def test_networks_trained_with_the_generator(abdomen):
    page = carry_out(abdomen, "png", "augmentation", "robustness", checkpoints=1, augmentation_epochs=1)
    assert "| clean training: generator trained against itself |" in page
    for name in ("trained on", "augmented"):
        assert f"| {name}: generator trained against clean training |" in page and f"**{name}** " in page
    weights = [abdomen / "models_png" / n / "model.pt" for n in (".", "trained_on", "augmented/synthesis_augmentation")]
    assert len({path.read_bytes() for path in weights}) == 3
