"""The lung bundle from training to masks on small phantom radiographs: networks, class sets, the paper's protocol, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from monai_advdef.bundle import bundles
from monai_advdef.data import DataError, write_lung_phantoms
from monai_advdef.study import Cell, recorded, workflow

NAME = "lung_xray_segmentation"
QUICK = {"image_size": 64, "batch_size": 2, "train::trainer::max_epochs": 2}
SECTIONS = {"train": (0, 1, 2, 3), "validation": (4, 5), "test": (6, 7, 8)}
THIN = {
    "nlcen": {"network": "nlcen", "width": 8},
    "nwcn with nlce": {"network": "nwcn", "nlce": True, "width": 0.1},
    "three classes": {"network": "unet", "multi": True},
}


@pytest.fixture(scope="module")
def lungs(tmp_path_factory, store) -> Path:
    """The bundle in a folder of its own, with nine phantom radiographs in three fixed sections."""
    root = tmp_path_factory.mktemp("lungs") / NAME
    shutil.copytree(bundles()[NAME], root, ignore=shutil.ignore_patterns("*.pt", "output", "phantom"))
    write_lung_phantoms(root / "phantom", cases=9, sizes=((96, 80),))
    rows = [f"phantom_{i:04d},{section}" for section, cases in SECTIONS.items() for i in cases]
    (root / "phantom" / "split.csv").write_text("\n".join(["case,section", *rows]) + "\n")
    return root


def settings(root, output, **options):
    return {"dataset_dir": str(root / "phantom"), "output_dir": str(output), "ckpt_dir": str(output), **QUICK, **options}


def train(root, output, *overlays, **options):
    made = workflow(root, [root / "configs" / f"{name}.yaml" for name in ("train", *overlays)], settings(root, output, **options))
    made.run()
    made.finalize()
    return made


def refusal(root, output, **options):
    """The error, below MONAI's own, that a training is refused with."""
    with pytest.raises(Exception) as told:  # noqa: B017, PT011 (MONAI wraps what a component raises)
        train(root, output, **options)
    error = told.value
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error


@pytest.mark.parametrize("options", THIN.values(), ids=THIN)
def test_trains_is_attacked_and_writes_masks_on_the_original_grid(lungs, tmp_path, options):
    train(lungs, tmp_path, **options)
    told = Cell(("attacks/pgd",), {"attack_def::steps": 2, "record_def::gallery": False, "record_def::card": False})
    rows = recorded(lungs, told, settings(lungs, tmp_path, **options))
    multi = options.get("multi", False)
    assert set(rows["class"]) >= ({"left lung", "right lung", "heart"} if multi else {"lungs"})
    assert set(rows["case"]) == {f"phantom_{i:04d}" for i in SECTIONS["test"]}
    assert (rows["eps"] == 8).all() and rows["linf"].between(1, 8).all()

    pictures = {"dataset_dir": str(lungs / "phantom" / "images"), "output_dir": str(tmp_path / "masks"), "image_size": 64}
    made = workflow(lungs, [lungs / "configs" / "inference.yaml"], {**pictures, "ckpt_dir": str(tmp_path), **options}, "inference")
    made.run()
    for picture in (lungs / "phantom" / "images").iterdir():
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{picture.stem}_lungs.png"))
        assert mask.shape == Image.open(picture).size[::-1] and set(np.unique(mask)) <= ({0, 1, 2, 3} if multi else {0, 255})


def test_paper_protocol_trains_and_slows_down_on_a_plateau(lungs, tmp_path):
    never_better = {"threshold": 2, "threshold_mode": "abs", "patience": 0}
    told = {f"train::lr_scheduler::{k}": v for k, v in never_better.items()}
    made = train(lungs, tmp_path, "paper", width=8, **told)
    content = made.parser.get_parsed_content
    optimizer, scheduler = content("train::optimizer"), content("train::lr_scheduler")
    assert scheduler.last_epoch == 2, "stepped after each of the two validations"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(9e-4), "the second validation was not better"
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["weight_decay"] == 1e-4
    image = content("train::dataset")[0]["image"]
    assert (image == content("train::dataset")[0]["image"]).all() and (image == image.round()).all(), "nothing is augmented"
    assert content("trunk") == "resnet18" and (tmp_path / "model.pt").exists()


def test_mask_of_another_class_names_the_file(lungs, tmp_path):
    shutil.copytree(lungs / "phantom", tmp_path / "data")
    odd = tmp_path / "data" / "masks" / "phantom_0003.png"
    Image.fromarray(np.full((80, 96), 7, np.uint8)).save(odd)
    error = refusal(lungs, tmp_path, dataset_dir=str(tmp_path / "data"))
    assert isinstance(error, DataError) and str(odd) in str(error) and "7" in str(error)


def test_size_that_is_no_multiple_of_32_is_told(lungs, tmp_path):
    error = refusal(lungs, tmp_path, image_size=80, width=8)
    assert isinstance(error, ValueError) and "multiples of 32, got 80x80" in str(error)


def test_weights_are_never_downloaded(lungs, tmp_path):
    with patch("socket.socket.connect", side_effect=AssertionError("asked the network")):
        error = refusal(lungs, tmp_path, weights="imagenet")
    assert isinstance(error, FileNotFoundError) and "give a local file with torchvision's ResNet-18 state dict" in str(error)
    assert not list(tmp_path.iterdir()), "refused before anything was trained"
