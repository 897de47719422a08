"""CT of the abdomen: organ maps, phantoms, layouts, labels, windows, partial annotation, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose

from monai_advdef.data import (
    DataError,
    LoadSeriesd,
    MarginalLoss,
    OrganLabelsd,
    StandardizeSubjectd,
    WindowHUd,
    check_folder,
    ct_items,
    ct_kind,
    dataset,
    marginal_logits,
    organ_map,
    write_abdomen_phantoms,
)

REAL = SHARED / "abdomen_ct"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no abdominal CT in {REAL}")
ALL = (1, 2, 3, 5, 7)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two phantoms, one as NIfTI and the same one as a DICOM series."""
    root = tmp_path_factory.mktemp("ct")
    write_abdomen_phantoms(root / "nifti", cases=1, spacing=(8, 8, 8))
    write_abdomen_phantoms(root / "dicom", cases=1, spacing=(8, 8, 8), dicom=True)
    return root


@pytest.fixture
def volumes(made, tmp_path) -> Path:
    """The NIfTI phantom, to be spoilt."""
    shutil.copytree(made / "nifti", tmp_path / "ct")
    return tmp_path / "ct"


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


def change(path, spoil, affine=None):
    stored = nib.load(path)
    image = nib.Nifti1Image(spoil(np.asanyarray(stored.dataobj).copy()), stored.affine if affine is None else affine)
    nib.save(image, path)


IMAGE, LABEL = "images/phantom_0000.nii.gz", "labels/phantom_0000.nii.gz"


# -- organ maps


def test_organ_maps_merge_values_choose_and_order():
    full = organ_map()
    assert full.names == ["pancreas", "kidneys", "liver", "spleen"] and full.classes == 5
    assert full.class_of == {7: 1, 2: 2, 3: 2, 5: 3, 15: 3, 1: 4}
    assert organ_map("abdomen", ["spleen", "kidneys"]).class_of == {1: 1, 2: 2, 3: 2}
    assert full.class_named("Right Kidney") == 2 and full.class_named("LIVER") == 3 and full.class_named("heart") == 0


def test_an_organ_map_of_ones_own(tmp_path):
    (tmp_path / "mine.json").write_text('{"heart": 17, "lungs": [18, 20]}')
    assert organ_map(tmp_path / "mine.json").class_of == {17: 1, 18: 2, 20: 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"liver": 5, "spleen": [1, 5]}', "the value 5 stands for 'liver' and 'spleen'"),
        ('{"liver": "five"}', "'liver' must have whole label values above 0, got 'five'"),
        ("{}", "at least one organ"),
        ("{", "cannot be read"),
    ],
)
def test_wrong_organ_maps_are_refused(tmp_path, text, said):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(DataError, match=said):
        organ_map(tmp_path / "map.json")


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(DataError, match=r"organs: no organ 'pancrea' .*did you mean 'pancreas'\?"):
        organ_map("abdomen", ["pancrea"])
    with pytest.raises(DataError, match=r"no organ map 'abdomn'; did you mean 'abdomen'\?"):
        organ_map("abdomn")
    with pytest.raises(DataError, match="none twice"):
        organ_map("abdomen", ["liver", "liver"])


# -- phantoms


def test_phantoms_have_five_organs_with_the_contrast_of_ct(made):
    image, label = voxels(made / "nifti" / IMAGE), voxels(made / "nifti" / LABEL)
    assert set(np.unique(label)) == {0, *ALL} and image.dtype == np.int16
    means = {value: image[label == value].mean() for value in ALL}
    assert all(40 < mean < 240 for mean in means.values()) and image.min() < -900 and image.max() > 300
    places = {value: np.argwhere(label == value).mean(0) for value in ALL}  # left, posterior, superior
    assert places[5][0] < places[7][0] < places[1][0] and places[2][0] < places[3][0] and places[2][2] < places[5][2]


def test_the_dicom_series_is_the_nifti_volume(made):
    load = LoadSeriesd(keys="image", modality="CT", ensure_channel_first=True)
    label = OrganLabelsd(keys="label")
    a, b = (Compose([load, label])(ct_items(made / kind)[0]) for kind in ("nifti", "dicom"))
    for key in ("image", "label"):
        assert np.allclose(a[key].affine, b[key].affine, atol=1e-4) and torch.equal(a[key].as_tensor(), b[key].as_tensor())


def test_phantoms_are_kept_and_claimed(made):
    path = made / "nifti" / IMAGE
    before = path.stat().st_mtime_ns
    write_abdomen_phantoms(made / "nifti", cases=1, spacing=(8, 8, 8))
    assert path.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds other phantoms"):
        write_abdomen_phantoms(made / "nifti", cases=1, spacing=(8, 8, 8), dicom=True)
    with pytest.raises(ValueError, match="spacing must be three lengths"):
        write_abdomen_phantoms(made / "new", spacing=(0, 8, 8))


# -- labels


def test_labels_are_put_onto_the_axes_of_the_image(volumes):
    expected = ct_items(volumes)[0]
    load = Compose([LoadSeriesd(keys="image", ensure_channel_first=True), OrganLabelsd(keys="label")])
    before = load(expected)["label"]
    stored = nib.as_closest_canonical(nib.load(volumes / LABEL))
    nib.save(stored, volumes / LABEL)
    after = load(ct_items(volumes)[0])["label"]
    assert torch.equal(before.as_tensor(), after.as_tensor()) and torch.equal(before.affine, after.affine)
    classes = organ_map().class_of
    assert np.array_equal(
        before[0].numpy(), np.vectorize(lambda v: classes.get(v, 0))(voxels(volumes / IMAGE) * 0 + _original(stored))
    )


def _original(stored):
    """A label in left-posterior-superior order again."""
    return np.asanyarray(stored.dataobj)[::-1, ::-1]


def test_a_dicom_seg_gives_the_classes_of_its_segments(made, tmp_path):
    from monai_advdef.data import read_series, write_seg

    shutil.copytree(made / "dicom", tmp_path / "ct")
    file = tmp_path / "ct" / "dicom" / "phantom_0000_label.nii.gz"
    label = voxels(file)
    names = ("spleen", "right kidney", "left kidney", "liver", "pancreas")
    numbered = sum((number * (label == value) for number, value in enumerate(ALL, 1)), np.zeros_like(label))
    series = read_series(tmp_path / "ct" / "dicom" / "phantom_0000")
    if np.linalg.det(nib.load(file).affine[:3, :3]) < 0:
        numbered = numbered[:, :, ::-1]
    load = Compose([LoadSeriesd(keys="image", ensure_channel_first=True), OrganLabelsd(keys="label")])
    from_nifti = load(ct_items(tmp_path / "ct")[0])["label"]
    file.unlink()
    write_seg(file.with_name("phantom_0000_seg.dcm"), numbered, series=series, names=names)
    assert torch.equal(load(ct_items(tmp_path / "ct")[0])["label"].as_tensor(), from_nifti.as_tensor())


SPOILT = {
    "not HU": (lambda r: change(r / IMAGE, lambda v: v + 1024), "none below 0, so they are no HU"),
    "impossible HU": (
        lambda r: change(r / IMAGE, lambda v: np.where(v > 100, 31000, v).astype(np.int16)),
        "outside -10240 to 30710 HU",
    ),
    "NaN": (lambda r: change(r / IMAGE, lambda v: np.where(v > 100, np.nan, v).astype(np.float32)), "NaN or infinite voxels"),
    "one value": (lambda r: change(r / IMAGE, lambda v: v * 0 - 5), "nothing but the value -5"),
    "another grid": (lambda r: change(r / LABEL, lambda v: v, np.diag([8, 8, 9, 1])), "not on the same grid"),
    "another shape": (lambda r: change(r / LABEL, lambda v: v[:-1]), "shape .* against"),
    "unknown value": (
        lambda r: change(r / LABEL, lambda v: np.where(v == 5, 44, v)),
        r"holds the label value 44, which .*labels.json",
    ),
    "no label": (lambda r: (r / LABEL).unlink(), r"has no label file; put phantom_0000.nii.gz into labels/"),
    "no organ": (lambda r: change(r / LABEL, lambda v: v * 0), "shows none of pancreas, kidneys"),
    "other meaning": (
        lambda r: (r / "labels.json").write_text(json.dumps({"0": "", "7": "heart", "2": "kidney", "5": "liver", "1": "spleen"})),
        "calls the label value 7 'heart', the organ map abdomen takes it for 'pancreas'",
    ),
    "other values": (lambda r: (r / "labels.json").write_text('{"6": "liver"}'), "has no label value 7"),
    "no table": (lambda r: (r / "labels.json").write_text("[]"), "does not tell what label values mean"),
    "cut short": (lambda r: (r / IMAGE).write_bytes((r / IMAGE).read_bytes()[:9000]), "cut short or corrupt"),
    "empty folder": (lambda r: shutil.rmtree(r / "images"), "no CT volume in"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_wrong_is_told_with_file_value_and_remedy(volumes, kind):
    spoil, said = SPOILT[kind]
    spoil(volumes)
    with pytest.raises(DataError, match=said):
        ct_items(volumes)


def test_a_series_without_rescale_tags_is_refused(made, tmp_path):
    shutil.copytree(made / "dicom", tmp_path / "ct")
    for path in (tmp_path / "ct" / "dicom" / "phantom_0000").iterdir():
        header = pydicom.dcmread(path)
        del header.RescaleIntercept
        header.save_as(path)
    with pytest.raises(DataError, match=r"CT without RescaleIntercept"):
        ct_items(tmp_path / "ct")


def test_bad_volumes_can_be_left_out_and_are_listed(volumes):
    shutil.copy(volumes / IMAGE, volumes / "images" / "lonely.nii.gz")
    with pytest.warns(UserWarning, match=r"left out: [\s\S]*lonely.nii.gz has no label file"):
        assert [item["case"] for item in ct_items(volumes, skip_bad=True)] == ["phantom_0000"]
    report = check_folder(volumes)
    assert report.cases == 2 and "lonely.nii.gz has no label file" in str(report)


# -- partial annotation


def test_which_organs_a_volume_counts_for(volumes):
    change(volumes / LABEL, lambda v: np.where(v == 5, v, 0))
    case = "phantom_0000"
    told = {"": [0, 3], "present": [0, 3], "all": [0, 1, 2, 3, 4]}
    for annotated, classes in told.items():
        assert np.flatnonzero(ct_items(volumes, annotated=annotated)[0]["annotated"]).tolist() == classes
    item = ct_items(volumes, annotated={case: ["spleen"]})[0]
    assert np.flatnonzero(item["annotated"]).tolist() == [0, 3, 4]
    with pytest.raises(DataError, match=r"no organ 'splen' .*did you mean 'spleen'"):
        ct_items(volumes, annotated={case: ["splen"]})
    with pytest.raises(DataError, match=r"names the case 'phantom_1', .*did you mean 'phantom_0000'"):
        ct_items(volumes, annotated={"phantom_1": ["spleen"]})


@given(seed=st.integers(0, 99), annotated=st.lists(st.booleans(), min_size=3, max_size=3))
def test_marginal_logits_add_what_is_not_annotated_to_the_background(seed, annotated):
    logits = 3 * torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    outlined = torch.tensor([[True, *annotated]])
    found, p = marginal_logits(logits, outlined).softmax(1), logits.softmax(1)
    expected = torch.where(outlined[:, :, None, None], p, 0)
    expected[:, 0] += torch.where(outlined[:, :, None, None], 0, p).sum(1)
    torch.testing.assert_close(found, expected)


def test_the_loss_knows_from_the_label_what_was_outlined():
    loss = MarginalLoss(loss=lambda logits, label: torch.nn.functional.cross_entropy(logits, label[:, 0].long()))
    logits = torch.tensor([[0.0, 9.0, 0.0]]).reshape(1, 3, 1).repeat(2, 1, 1).requires_grad_()
    items = [
        {"label": MetaTensor(torch.zeros(1, 1), meta={"annotated": torch.tensor([True, seen, True])})} for seen in (True, False)
    ]
    label = list_data_collate(items)["label"]
    outlined, not_outlined = (loss(logits[i : i + 1], label[i : i + 1]) for i in range(2))
    assert outlined > 8 and not_outlined < 1e-3
    torch.testing.assert_close(loss(logits, label), (outlined + not_outlined) / 2)
    torch.testing.assert_close(loss(logits, label.as_tensor()), outlined)


# -- intensities


def test_window_keeps_hu_inside_and_z_score_is_exact_behind_the_first_layer(made):
    stored = voxels(made / "nifti" / IMAGE)
    image = LoadSeriesd(keys="image", ensure_channel_first=True)({"image": str(made / "nifti" / IMAGE)})
    windowed = WindowHUd(keys="image")(image)["image"]
    assert np.array_equal(windowed[0].numpy(), np.clip(stored, -160, 240).astype(np.float32))
    subject = StandardizeSubjectd(keys="image", mean=40, std=100)({"image": windowed})["image"]
    clipped = np.clip(stored, -160, 240).astype(np.float64)
    assert np.allclose((subject[0].numpy() - 40) / 100, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)
    assert np.isclose(subject.meta["subject_std"], clipped.std()) and np.isclose(subject.meta["subject_mean"], clipped.mean())


def test_wrong_windows_are_refused():
    with pytest.raises(ValueError, match=r"window must be \(low, high\) in HU"):
        WindowHUd(keys="image", window=(240, -160))
    with pytest.raises(DataError, match="no HU"):
        WindowHUd(keys="image")({"image": torch.rand(1, 4, 4, 4)})


# -- the real data


@real
@pytest.mark.realdata
def test_real_slices_have_their_own_map_and_keep_patients_apart():
    assert ct_kind(REAL / "slices2d") == "slices" and ct_kind(REAL) == "volumes"
    sections = dataset("abdomen", REAL / "slices2d")
    patients = [{item["patient"] for item in items} for items in sections.values()]
    assert sum(map(len, sections.values())) == 72 and len(set.union(*patients)) == sum(map(len, patients)) == 9
    with pytest.raises(DataError, match="annotated must be 'all' for slices"):
        dataset("abdomen", REAL / "slices2d", annotated="present")


@real
@pytest.mark.realdata
def test_real_volumes_of_every_layout_are_found_with_what_was_outlined():
    items = {item["case"]: item for item in ct_items(REAL, voxels=False)}
    outlined = {case: np.flatnonzero(item["annotated"]).tolist() for case, item in items.items()}
    assert outlined == {
        "chaos_set3": [0, 3],
        "chaos_set3_dicom": [0, 3],
        "dcmqi_ct3_seg": [0, 3],
        "noisy_img_2": [0, 2, 3],
        "totalseg_example": [0, 1, 2, 3, 4],
        "totalseg_example_dicom": [0, 1, 3, 4],
    }
    assert items["chaos_set3_dicom"]["patient"] == "chaos_set3"
