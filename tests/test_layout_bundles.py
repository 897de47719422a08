"""Every bundle reads a data set by patterns, a list or a layout, through its own configuration and transforms."""

from __future__ import annotations

import pytest
from layout_folders import drawn, mask, nnunet, organ, pairs, picture, scan, sections, volume
from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.utils import first

from monai_advdef.bundle import bundles
from monai_advdef.data import DataError

NAMES = {
    "skin": "skin_lesion_dermoscopy_segmentation",
    "fundus": "optic_disc_fundus_segmentation",
    "lung": "lung_xray_segmentation",
    "glioma": "glioma_mri_segmentation",
    "abdomen": "abdominal_organ_ct_segmentation",
}


def parser(task, root, folder, *files, **overrides):
    config = ConfigParser()
    configs = bundles()[NAMES[task]] / "configs"
    config.read_config([str(configs / name) for name in ("train.yaml", *files)])
    config.update({"bundle_root": str(root), "dataset_dir": str(folder), **overrides})
    return config


def loaded(config, section="test"):
    items = config.get_parsed_content("data")[section]
    return Compose(config.get_parsed_content("loading"))(items[0]), items[0]["case"]


@pytest.mark.parametrize("task", ["skin", "fundus", "lung"])
def test_pictures_by_patterns(tmp_path, task):
    for k in range(8):
        picture(tmp_path / f"set/x/{k}.png", k)
        mask(tmp_path / f"set/y/{k}_m.png", k, value=128)
    told = {"images": "x/{case}.png", "masks": "y/{case}_m.png", "values": "0=0,128=1"}
    item, case = loaded(parser(task, tmp_path, tmp_path / "set", image_size=24, **told))
    assert item["label"].shape == (1, 24, 24) and (item["label"][0].numpy().T == drawn(int(case))).all()


def test_pictures_of_a_layout_and_of_a_list(tmp_path):
    pairs(tmp_path / "set")
    item, case = loaded(parser("skin", tmp_path, tmp_path / "set", image_size=24))
    assert (item["label"][0].numpy().T == drawn(int(case))).all()
    rows = [f"{k:03}.jpg,{k:03}_mask.png" for k in range(12)]
    (tmp_path / "set" / "list.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    again, _ = loaded(parser("skin", tmp_path, tmp_path / "set" / "list.csv", image_size=24))
    assert (again["label"] == item["label"]).all()


def test_ct_by_patterns_and_of_a_layout(tmp_path):
    for k in range(4):
        scan(tmp_path / f"set/c{k}/ct.nii.gz", k)
        volume(tmp_path / f"set/c{k}/liver.nii.gz", organ(k))
    told = {"images": "{case}/ct.nii.gz", "masks": "liver={case}/liver.nii.gz", "spacing": None}
    config = parser("abdomen", tmp_path, tmp_path / "set", **told)
    assert config.get_parsed_content("kind") == "volumes"
    item, case = loaded(config)
    assert int((item["label"] == 3).sum()) == int(organ(int(case[-1])).sum())
    assert item["label"].meta["annotated"].tolist() == [True, False, False, True, False]
    nnunet(tmp_path / "Dataset001")
    item, case = loaded(parser("abdomen", tmp_path, tmp_path / "Dataset001", spacing=None))
    assert int((item["label"] == 3).sum()) == int(organ(int(case[-1])).sum())


def test_slices_by_patterns(tmp_path):
    for k in range(8):
        picture(tmp_path / f"set/x/{k}.png", k, grey=True)
        mask(tmp_path / f"set/y/{k}.png", k)
    told = {"images": "x/{case}.png", "masks": "y/{case}.png", "values": "0=0,255=3", "image_size": 24}
    config = parser("abdomen", tmp_path, tmp_path / "set", **told)
    assert config.get_parsed_content("kind") == "slices" and config.get_parsed_content("organ_map") == "curvas"
    item, case = loaded(config)
    assert ((item["label"][0].numpy().T == 3) == drawn(int(case))).all()


def test_gliomas_by_patterns(tmp_path):
    for k in range(4):
        for place, name in enumerate(("a", "b", "c", "d")):
            scan(tmp_path / f"set/{name}/{k}.nii.gz", 10 * place + k, low=0)
        volume(tmp_path / f"set/seg/{k}.nii.gz", organ(k) * 3)
    images = [f"{name}/{{case}}.nii.gz" for name in "abcd"]
    told = {"images": images, "masks": "seg/{case}.nii.gz", "values": "0=0,1=2,2=1,3=3"}
    item, case = loaded(parser("glioma", tmp_path, tmp_path / "set", **told))
    assert item["image"].shape[0] == 4 and int((item["label"] == 3).sum()) == int(organ(int(case)).sum())


def test_a_test_section_alone_is_evaluated_and_a_training_is_told(tmp_path):
    sections(tmp_path / "set", parts=(("test", 5),))
    config = parser("skin", tmp_path, tmp_path / "set", "evaluate.yaml", image_size=24)
    batch = first(config.get_parsed_content("validate::dataloader"))
    assert batch["image"].shape[1:] == (3, 24, 24)
    config = parser("skin", tmp_path, tmp_path / "set", image_size=24)
    with pytest.raises(RuntimeError) as caught:
        config.get_parsed_content("train::dataloader")
    causes = []
    error = caught.value
    while error is not None:
        causes.append(error)
        error = error.__cause__
    assert any(isinstance(e, DataError) and "the section 'train' is empty, but a training learns" in str(e) for e in causes)
