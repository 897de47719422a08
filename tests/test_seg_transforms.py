"""Labels loaded from SEG and RTSTRUCT in a pipeline, and predictions saved back over their series."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import AFFINE, volume
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd, Orientationd, SpatialPadd
from test_rtstruct import circle, write_rtstruct

from monai_advdef.data import DataError, LoadSeriesd, Series, read_series, write_series
from monai_advdef.dicom.seg_read import read_seg
from monai_advdef.dicom.seg_transforms import LoadSegd, SaveSegd
from monai_advdef.dicom.seg_write import write_seg

pytestmark = pytest.mark.filterwarnings("ignore:The string")
SHAPE = (12, 10, 4)
ORGANS = ["liver", "spleen"]


@pytest.fixture
def series(tmp_path: Path) -> Series:
    write_series(tmp_path / "case.1" / "ct.2.5", volume(SHAPE), AFFINE, modality="CT")
    return read_series(tmp_path / "case.1" / "ct.2.5")


def classes(array: np.ndarray) -> np.ndarray:
    return np.digitize(array, [-200, 700])


def test_seg_rtstruct_and_volume_files_load_alike(tmp_path, series):
    labels = classes(series.array)
    labels[:, :, 1] = 0
    write_seg(tmp_path / "seg.dcm", labels, series=series, names=ORGANS)
    write_rtstruct(tmp_path / "rt.dcm", series, {"Liver": [(1, circle((5, 4), 3.3))]})
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), series.affine), tmp_path / "label.nii.gz")
    folder = str(series.files[0].parent)
    read = LoadSegd(["seg", "rt", "file"], names={"liver": 1}, ensure_channel_first=True, allow_missing_keys=True)
    image = LoadSeriesd("image")({"image": folder})["image"]
    for source in (folder, image):  # before or after the image is loaded
        found = read({"image": source, "seg": tmp_path / "seg.dcm", "rt": str(tmp_path / "rt.dcm")})
        np.testing.assert_array_equal(found["seg"][0], labels == 1)
        np.testing.assert_array_equal(found["rt"][0, :, :, 1], np.hypot(*(np.indices(SHAPE[:2]) - [[[5]], [[4]]])) < 3.3)
        for label in (found["seg"], found["rt"]):
            np.testing.assert_allclose(label.affine, series.affine)
    file = LoadSegd("file")({"file": tmp_path / "label.nii.gz"})["file"]
    np.testing.assert_array_equal(file, labels)
    assert file.shape == SHAPE and found["seg"].meta["filename_or_obj"] == str(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match="seg.dcm needs the DICOM series it was made on, but 'image' is none"):
        LoadSegd("label")({"image": tmp_path / "label.nii.gz", "label": tmp_path / "seg.dcm"})


def predict(folder: Path) -> dict:
    """A pipeline whose transforms turn, flip and pad the image, a prediction there, and the way back."""
    there = Compose(
        [
            LoadSeriesd("image", ensure_channel_first=True),
            Orientationd("image", axcodes="PLI"),
            Flipd("image", spatial_axis=1),
            SpatialPadd("image", spatial_size=(16, 16, 8), value=-1024),
        ]
    )
    case = there({"image": folder})
    case["pred"] = MetaTensor(classes(case["image"].numpy()).astype(np.float32)).copy_meta_from(case["image"])
    return Invertd("pred", there, orig_keys="image", nearest_interp=True, to_tensor=True)(case)


def test_an_inverted_prediction_is_saved_over_its_series(tmp_path, series):
    case = predict(series.files[0].parent)
    save = {"output_dir": str(tmp_path / "out"), "names": ORGANS}
    assert SaveSegd("pred", **save)(case)["pred"] is case["pred"]
    labels, names = read_seg(tmp_path / "out" / "ct.2.5" / "ct.2.5_seg.dcm", series=series)
    np.testing.assert_array_equal(labels, classes(series.array))
    assert names == {1: "liver", 2: "spleen"}
    SaveSegd("pred", output_postfix="attacked", data_root_dir=str(tmp_path), **save)(case)
    assert (tmp_path / "out" / "case.1" / "ct.2.5" / "ct.2.5_attacked.dcm").is_file()


def test_predictions_that_do_not_fit_are_refused_and_those_not_from_dicom_passed_over(tmp_path, series):
    save = SaveSegd("pred", output_dir=str(tmp_path / "out"), names=ORGANS)
    folder = {"filename_or_obj": str(series.files[0].parent)}
    with pytest.raises(DataError, match=r"'pred' of .*ct\.2\.5 must be classes \(1, X, Y, Z\), got \(3, 12, 10, 4\)"):
        save({"pred": MetaTensor(np.zeros((3, *SHAPE)), affine=series.affine, meta=folder)})
    with pytest.raises(DataError, match=r"'pred' and .*ct\.2\.5 are not on the same grid"):
        save({"pred": MetaTensor(np.zeros((1, *SHAPE)), affine=np.eye(4), meta=folder)})
    with pytest.raises(DataError, match="'pred' has no filename_or_obj"):
        save({"pred": MetaTensor(np.zeros((1, *SHAPE)))})
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE), np.eye(4)), tmp_path / "image.nii.gz")
    save({"pred": MetaTensor(np.zeros((1, *SHAPE)), meta={"filename_or_obj": str(tmp_path / "image.nii.gz")})})
    assert not (tmp_path / "out").exists()
