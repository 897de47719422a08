"""The abdomen bundle from training to predictions, on small phantom volumes, partly annotated ones, and slices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from monai_advdef.bundle import bundles
from monai_advdef.data import DataError, ct_items, write_abdomen_phantoms
from monai_advdef.records import read_records
from monai_advdef.study import workflow

NAME = "abdominal_organ_ct_segmentation"
QUICK = {
    "train::trainer::max_epochs": 1,
    "val_interval": 1,
    "channels": (4, 8),
    "samples": 1,
    "batch_size": 2,
    "residual": False,
    "spacing": None,
    "device": "$torch.device('cpu')",
}
PATCH = {"unet2d": (16, 16, 1), "unet3d": (16, 16, 16), "slices": (32, 32)}
ORGANS = {"pancreas", "kidneys", "liver", "spleen"}
SECTIONS = ("train", "train", "validation", "test")


def write_split(folder, cases) -> None:
    rows = [f"{case},{section}" for case, section in zip(cases, SECTIONS, strict=True)]
    (folder / "split.csv").write_text("\n".join(["case,section", *rows]) + "\n")


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory) -> Path:
    """The bundle in a folder of its own with four phantoms at 12 mm, and one store for all runs."""
    root = tmp_path_factory.mktemp("abdomen") / NAME
    shutil.copytree(bundles()[NAME], root, ignore=shutil.ignore_patterns("*.pt", "output", "phantom"))
    images = write_abdomen_phantoms(root / "data", cases=4, spacing=(12, 12, 12))
    write_split(root / "data", [path.name.split(".")[0] for path in images])
    with patch.dict("os.environ", MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlruns.db'}"):
        yield root


def carry_out(root, data, output, *files, kind="train", network="unet2d", **options):
    told = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(root / "trained" / network), "network": network}
    told |= {**QUICK, "patch_size": PATCH[network], **options}
    if kind == "inference":
        told = {
            key: value for key, value in told.items() if "::" not in key and key not in ("val_interval", "samples", "batch_size")
        }
    made = workflow(root, [f if isinstance(f, Path) else root / "configs" / f"{f}.yaml" for f in files], told, kind)
    made.run()
    return made


@pytest.fixture(scope="module")
def trained(abdomen) -> Path:
    carry_out(abdomen, abdomen / "data", abdomen / "out", "train")
    return abdomen


def test_evaluated_and_attacked_in_hu(trained, tmp_path):
    from monai_advdef.bundle import workflows

    attack = {"attack_def::steps": 1, "record_def::gallery": False, "record_def::card": False}
    carry_out(trained, trained / "data", tmp_path, "train", "evaluate", workflows()["attacks/pgd"], "threat", **attack)
    rows = read_records(tmp_path / "records")
    assert set(rows["case"]) == {"phantom_0003"} and set(rows.loc[rows["metric"] == "dice", "class"]) == ORGANS
    assert {"hd95_mm", "volume_error_ml"} <= set(rows["metric"])
    assert (rows["unit"] == "HU").all() and (rows["eps"] == 8).all() and rows["linf"].between(1, 8 * (1 + 1e-6)).all()


def test_predictions_lie_on_the_original_grid_as_nifti_and_as_seg(trained, tmp_path):
    data = tmp_path / "data"
    write_abdomen_phantoms(data, cases=1, spacing=(12, 12, 12), dicom=True)
    shutil.copytree(trained / "data" / "images", data / "images")
    carry_out(trained, data, tmp_path / "out", "inference", kind="inference", spacing=(10, 10, 12))
    for case in range(4):
        made = nib.load(tmp_path / "out" / "images" / f"phantom_{case:04d}_pred.nii.gz")
        image = nib.load(data / "images" / f"phantom_{case:04d}.nii.gz")
        assert made.shape == image.shape and np.allclose(made.affine, image.affine) and made.get_data_dtype() == np.uint8
        assert np.asanyarray(made.dataobj).max() <= len(ORGANS)
    of_series = np.asanyarray(nib.load(tmp_path / "out" / "dicom" / "phantom_0000_pred.nii.gz").dataobj)
    (seg,) = (tmp_path / "out").rglob("*_seg.dcm")
    frames = pydicom.dcmread(seg).pixel_array.sum()
    assert frames == np.count_nonzero(of_series) > 0
    names = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert names == {"0": "background", "1": "pancreas", "2": "kidneys", "3": "liver", "4": "spleen"}


def test_every_volume_of_a_folder_is_predicted_under_a_name_of_its_own(trained, tmp_path):
    """Characters of patterns in the folder's name, dots in those of files and series, suffixes in capitals, files of other kinds."""
    data = tmp_path / "study [1] *"
    data.mkdir()
    write_abdomen_phantoms(tmp_path / "made", cases=1, spacing=(12, 12, 12), dicom=True)
    image = trained / "data" / "images" / "phantom_0000.nii.gz"
    for name in ("1.2.840.0.nii.gz", "1.2.840.1.NII.GZ", "x.nii.gz"):
        shutil.copy(image, data / name)
    for name in ("scan.1", "scan.2"):
        shutil.copytree(tmp_path / "made" / "dicom" / "phantom_0000", data / name)
        (data / name / "LICENSE").write_text("free")
    (data / "notes.txt").write_text("none")
    with pytest.warns(UserWarning, match="passed over 1 file"):
        carry_out(trained, data, tmp_path / "out", "inference", kind="inference", spacing=(10, 10, 12))
    made = sorted(path.name for path in (tmp_path / "out").rglob("*_pred.nii.gz"))
    assert made == [f"{name}_pred.nii.gz" for name in ("1.2.840.0", "1.2.840.1", "scan.1", "scan.2", "x")]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.dcm")) == ["scan.1_seg.dcm", "scan.2_seg.dcm"]
    shutil.copytree(data / "scan.1", data / "x")
    with pytest.raises(DataError, match=r"holds x.nii.gz and the series x/, whose predictions would be one file"):
        ct_items(data, labelled=False)


def test_folders_without_volumes_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in ((tmp_path / "absent", "is not a folder"), (tmp_path / "empty", "no CT volume in")):
        with pytest.raises(DataError, match=words):
            ct_items(folder, labelled=False)


def test_3d_network_on_partly_annotated_volumes(abdomen, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(abdomen / "data", data)
    for case in (0, 2, 3):
        path = data / "labels" / f"phantom_{case:04d}.nii.gz"
        label = nib.load(path)
        voxels = np.asanyarray(label.dataobj)
        nib.save(nib.Nifti1Image(np.where(voxels == 5, voxels, 0).astype(np.uint8), label.affine), path)
    made = carry_out(abdomen, data, tmp_path / "out", "train", network="unet3d", zscore=True)
    cases = made.parser.get_parsed_content("data")["train"]
    assert [case["annotated"] for case in cases] == [[True, False, False, True, False], [True] * 5]
    assert (abdomen / "trained" / "unet3d" / "model.pt").exists()
    told = {"network": "unet3d", "zscore": True, "record_def::card": False}
    carry_out(abdomen, data, tmp_path / "out", "train", "evaluate", **told)
    rows = read_records(tmp_path / "out" / "records")
    assert set(rows["class"]) == {"liver"} and {"dice", "hd95_mm"} <= set(rows["metric"]), "of a liver's volume the liver is scored"


def test_slices_are_recognised_trained_on_and_scored_in_grey_levels(abdomen, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["image,patient,slice"]
    for part in ("images", "masks"):
        (tmp_path / "png" / part).mkdir(parents=True)
    for case in range(4):
        mask = np.kron(rng.integers(0, 4, (8, 8)), np.ones((8, 8))).astype(np.uint8)
        grey = 60 + 58 * mask + rng.integers(0, 20, mask.shape, dtype=np.uint8)
        for part, pixels in (("images", grey), ("masks", mask)):
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "png" / part / f"s{case}.png")
        lines.append(f"s{case}.png,p{case},7")
    (tmp_path / "png" / "labels.csv").write_text("\n".join(lines) + "\n")
    write_split(tmp_path / "png", [f"s{case}" for case in range(4)])
    told = {"patch_size": PATCH["slices"], "image_size": 64, "ckpt_dir": str(tmp_path / "models")}
    carry_out(abdomen, tmp_path / "png", tmp_path / "out", "train", **told)
    made = carry_out(abdomen, tmp_path / "png", tmp_path / "out", "train", "evaluate", **told, **{"record_def::card": False})
    rows = read_records(tmp_path / "out" / "records")
    assert set(rows["patient"]) == {"p3"} and set(rows["class"]) == {"pancreas", "kidneys", "liver"}
    assert made.parser.get_parsed_content("unit") == "grey level" and "hd95_mm" not in set(rows["metric"])
    patches = [p["image"] for _ in range(4) for p in made.parser.get_parsed_content("train::dataset")[0]]
    assert all(0 <= p.min() and p.max() <= 255 for p in patches), "attacks in training start from augmented images"
    told |= {"slice_crop": 32, "record_def::card": False}
    made = carry_out(abdomen, tmp_path / "png", tmp_path / "cropped", "train", "evaluate", **told)
    (case,), drawn = made.parser.get_parsed_content("validate::dataset"), np.array(Image.open(tmp_path / "png" / "masks" / "s3.png"))
    assert np.array_equal(case["label"][0], np.kron(drawn[16:48, 16:48], np.ones((2, 2))).T), "the middle of a slice, enlarged"
