"""Predictions as files: on the grid of their source in mm, under a name of their own."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_advdef.data import DataError, LoadSeriesd, SaveVolumesd


def prediction(source, shape=(4, 5, 6)):
    return {
        "pred": MetaTensor(
            torch.ones(1, *shape), affine=torch.diag(torch.tensor([2.0, 2, 3, 1])), meta={"filename_or_obj": str(source)}
        )
    }


def saver(root, **options):
    return SaveVolumesd(
        "pred", output_dir=str(root), output_postfix="pred", separate_folder=False, resample=False, print_log=False, **options
    )


def test_headers_say_mm_and_names_keep_their_dots(tmp_path):
    (tmp_path / "scan.1").mkdir()
    save = saver(tmp_path / "out")
    for name in ("1.2.840.0.nii.gz", "1.2.840.1.nii.gz", "a.b.NII.GZ", "c.d.nii", "scan.1"):
        save(prediction(tmp_path / name))
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == [f"{n}_pred.nii.gz" for n in ("1.2.840.0", "1.2.840.1", "a.b", "c.d", "scan.1")]
    for path in made:
        assert nib.load(path).header.get_xyzt_units()[0] == "mm"
        assert np.allclose(LoadSeriesd("image")({"image": str(path)})["image"].pixdim, [2, 2, 3])


def test_no_prediction_overwrites_another(tmp_path):
    save = saver(tmp_path / "out")
    for _ in range(2):  # the same once more is the same file
        save(prediction(tmp_path / "a" / "x.nii.gz"))
    with pytest.raises(DataError, match=r"b/x.nii and .*a/x.nii.gz would both be .*x_pred.nii.gz; rename one"):
        save(prediction(tmp_path / "b" / "x.nii"))
    save = saver(tmp_path / "out", data_root_dir=str(tmp_path))
    for folder in "ab":
        save(prediction(tmp_path / folder / "x.nii.gz"))
    assert len(list((tmp_path / "out").rglob("x_pred.nii.gz"))) == 3
