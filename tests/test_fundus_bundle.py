"""The optic disc bundle from training to the diagnosis under attack, on small phantom files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_advdef.bundle import bundles
from monai_advdef.data import DataError, write_fundus_phantoms
from monai_advdef.papers import FrequencyRefinementTable
from monai_advdef.records import read_records
from monai_advdef.study import Cell, recorded, workflow

NAME = "optic_disc_fundus_segmentation"
QUICK = {"image_size": 64, "batch_size": 4, "train::trainer::max_epochs": 2, "val_interval": 2}
CROP = {"crop_side: 96": "crop_side: 24", "crop_margin: 48": "crop_margin: 8"}
FASTER = {
    "diagnosis": {"side: 96": "side: 24"},
    "train_cup": {**CROP, "cup_epochs: 70": "cup_epochs: 1"},
    "train_diagnosis": {**CROP, "diagnosis_epochs: 60": "diagnosis_epochs: 1"},
}


@pytest.fixture(scope="module")
def trained_fundus(tmp_path_factory, store) -> tuple[Path, dict]:
    """The bundle with its disc network trained for a moment, and its settings."""
    root = tmp_path_factory.mktemp("fundus") / NAME
    shutil.copytree(bundles()[NAME], root, ignore=shutil.ignore_patterns("*.pt", "output", "phantom"))
    for name, changes in FASTER.items():
        path = root / "configs" / f"{name}.yaml"
        text = path.read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
    write_fundus_phantoms(root / "phantom", cases=22, sizes=((96, 80),))
    folders = {"dataset_dir": root / "phantom", "output_dir": root / "output", "ckpt_dir": root / "models"}
    settings = {k: str(v) for k, v in folders.items()}
    made = workflow(root, [root / "configs" / "train.yaml"], {**settings, **QUICK})
    made.run()
    made.finalize()
    return root, settings


def chain(error):
    """An error and all that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.slow
def test_table_three_runs_from_training_to_diagnosis(trained_fundus, tmp_path):
    root, settings = trained_fundus
    settings = {**settings, "output_dir": str(tmp_path), "image_size": 64, "batch_size": 4}
    columns = [
        {"name": "no defence"},
        {"name": "FR(30,5,80)", "overlay": "defenses/frequency_refinement", "options": {"band_std": "fitted"}},
    ]
    asma = {"steps": 3, "tau": 1e-4, "beta": 1e-3, "stored": "uint8"}
    table = FrequencyRefinementTable(
        number=3,
        task="fundus",
        bundle_root=root,
        settings=settings,
        overlays=["configs/diagnosis"],
        trainings={"cup.pt": "configs/train_cup", "diagnosis_densenet.pt": "configs/train_diagnosis"},
        defenses=columns,
        attacks=[{"name": "ASMA", "overlay": "attacks/asma", "options": asma, "adaptive": []}],
    )
    page = table.run().read_text()
    files = {p.name for p in (root / "models").iterdir()}
    assert {"cup.pt", "cup.json", "diagnosis_densenet.pt", "diagnosis_resnet.pt", "diagnosis.json"} <= files, "trained on the way"
    rows = read_records(tmp_path / "records")
    readings = {"probability", "cup_disc_ratio", "truth", "positive_probability", "positive_cup_disc_ratio"}
    assert readings <= set(rows[rows["class"] == "glaucoma"]["metric"])
    assert {"crop_shift_px", "disc_found"} <= set(rows[rows["class"] == "optic disc"]["metric"])
    assert set(rows[rows["metric"] == "truth"]["value"]) == {0.0, 1.0}
    for told in ("ASMA: oblivious", "AUC [95 %]", "shift of the crop", "| the paper | 50.6 | 68.2 |"):
        assert told in page


@pytest.mark.slow
def test_diagnosis_without_its_networks_says_how_to_train_them(trained_fundus, tmp_path):
    root, settings = trained_fundus
    bare = tmp_path / "models"
    bare.mkdir()
    shutil.copy(root / "models" / "model.pt", bare)
    with pytest.raises(Exception) as caught:
        recorded(
            root, Cell(("configs/diagnosis",)), {**settings, "ckpt_dir": str(bare), "output_dir": str(tmp_path), "image_size": 64}
        )
    assert any("cup.pt" in str(e) and "train_cup.yaml" in str(e) for e in chain(caught.value))


def test_a_data_set_without_diagnoses_cannot_train_one(trained_fundus, tmp_path):
    root, settings = trained_fundus
    shutil.copytree(root / "phantom", tmp_path / "data")
    (tmp_path / "data" / "labels.csv").unlink()
    files = [root / "configs" / f"{n}.yaml" for n in ("train", "train_diagnosis")]
    with pytest.raises(Exception) as caught:
        workflow(root, files, {**settings, **QUICK, "dataset_dir": str(tmp_path / "data")}).run()
    assert any(isinstance(e, DataError) and "diagnosis" in str(e) for e in chain(caught.value))
