"""Volumes whose headers state metres or microns, contradict themselves, or claim what cannot be: the same millimetres, or words."""

from __future__ import annotations

import gzip
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.transforms import Compose, LoadImage
from mri_files import GLIOMA, data_set, loading, volumes
from mri_files import LPS as AFFINE

from monai_advdef.data import DataError, LoadSeriesd, check_folder, ct_items, subject_items, write_abdomen_phantoms
from monai_advdef.dicom.nifti import read_nifti, read_nifti_header
from monai_advdef.handlers import RegionHandler
from monai_advdef.handlers.volumes import AttackedVolumeSaver

UNITS = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)


def write(path, unit="mm", told=None, voxels=VOXELS, affine=AFFINE, **fields):
    """A volume whose lengths are in ``unit``, which its header tells, or tells otherwise (``told``); further header fields."""
    scaled = np.diag([UNITS[unit]] * 3 + [1]) @ affine
    image = nib.Nifti1Image(voxels, scaled)
    image.set_qform(scaled, 1)
    image.header.set_xyzt_units(told or unit, "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    if fields:
        content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        header = np.frombuffer(bytes(content[:348]), nib.Nifti1Header.template_dtype).copy()
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.tobytes()
        path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def in_unit(root, unit):
    """Rewrite every NIfTI file below a folder with its lengths in another unit."""
    for path in sorted(root.rglob("*.nii.gz")):
        image = nib.load(path)
        write(path, unit, voxels=np.asanyarray(image.dataobj), affine=image.affine)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("stock", [False, True])
def test_distances_and_volumes_are_mm_whatever_the_unit(tmp_path, unit, stock):
    label = torch.zeros(1, 20, 20, 20)
    label[:, 5:12, 5:12, 5:12] = 1
    path = write(tmp_path / "a.nii.gz", unit, voxels=label[0].numpy().astype(np.int16), affine=np.diag([2, 2, 2, 1]))
    if stock:
        image = LoadImage(image_only=True, ensure_channel_first=True)(str(path))
    else:
        image = LoadSeriesd("image", ensure_channel_first=True)({"image": str(path)})["image"]
        assert torch.allclose(image.affine, torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64)), atol=1e-5)
    values = RegionHandler(["tumour"]).measure(label.roll(3, 3), label, image)
    assert values["tumour", "hd95_mm"] == pytest.approx(6, rel=1e-5)
    empty = RegionHandler(["tumour"]).measure(torch.zeros_like(label), label, image)
    assert empty["tumour", "hd95_mm"] == pytest.approx(np.sqrt(3) * 40, rel=1e-5)  # the diagonal of the field of view
    assert empty["tumour", "volume_error_ml"] == pytest.approx(-(7**3) * 8e-3, rel=1e-5)


def test_series_and_labels_of_different_units_share_a_grid(tmp_path):
    data_set(tmp_path)
    before = read_nifti_header(tmp_path / "a" / "t1.nii.gz").affine
    for folder, unit in (("a", "meter"), ("b", "micron")):
        in_unit(tmp_path / folder, unit)
    label = tmp_path / "c" / "seg.nii.gz"
    write(label, "meter", voxels=np.asanyarray(nib.load(label).dataobj))
    assert len(subject_items(tmp_path, "glioma")) == 4 and not check_folder(tmp_path).problems
    for name in "abc":
        np.testing.assert_allclose(read_nifti_header(tmp_path / name / "seg.nii.gz").affine, before, atol=1e-3)


def test_a_ct_in_metres_with_its_label_in_mm(tmp_path):
    write_abdomen_phantoms(tmp_path, cases=1, spacing=(8, 8, 8))
    in_unit(tmp_path / "images", "meter")
    assert len(ct_items(tmp_path)) == 1
    report = check_folder(tmp_path)
    assert not report.problems and report.cases == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "meter", "told": "unknown"}, r"voxels of 0.002 x 0.002 x 0.003 mm .*0.02 to 50 mm.*xyzt_units"),
        ({"unit": "micron", "told": "mm"}, r"voxels of 2000 x 2000 x 3000 mm"),
        ({"unit": "mm", "told": "micron"}, r"voxels of 0.002 x 0.002 x 0.003 mm"),
        ({"xyzt_units": 7}, r"xyzt_units is 7"),
        ({"pixdim": [1, 2, 2, 5, 1, 1, 1, 1]}, r"the sform makes voxels 2 x 2 x 3, pixdim 2 x 2 x 5"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 2, 0, 3, 1, 1, 1, 1]}, r"pixdim is \[2.0, 0.0, 3.0\] .*no size"),
        ({"sform_code": 0, "pixdim": [1, 2, -2, 3, 1, 1, 1, 1]}, r"pixdim is \[2.0, -2.0, 3.0\]"),
        ({"sform_code": 0, "pixdim": [1, 2, np.nan, 3, 1, 1, 1, 1]}, r"pixdim is \[2.0, nan, 3.0\]"),
        ({"srow_x": [np.nan, 0, 0, 0]}, r"a.nii.gz"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, r"30000 x 30000 x 30000 voxels of int16, 54000000000352 bytes, more than"),
        ({"dim": [3, -6, 5, 4, 1, 1, 1, 1]}, r"has the shape \(-6, 5, 4\)"),
        ({"datatype": 32}, r"no real numbers|bitpix|a.nii.gz"),
    ],
)
def test_headers_that_cannot_be_are_refused_with_value_and_remedy(tmp_path, change, words):
    path = write(tmp_path / "a.nii.gz", **change)
    with pytest.raises(DataError, match=words) as told:
        LoadSeriesd("image")({"image": str(path)})
    assert str(path) in str(told.value)
    with pytest.raises(DataError, match=words):
        read_nifti_header(path)


@pytest.mark.parametrize("unit", UNITS)
def test_voxel_sizes_alone_have_a_unit_too_and_an_orientation_that_is_said_to_be_a_guess(tmp_path, unit):
    path = write(tmp_path / "a.nii", unit, sform_code=0, qform_code=0)
    with pytest.warns(UserWarning, match="neither sform nor qform"):
        image = LoadSeriesd("image")({"image": str(path)})["image"]
    np.testing.assert_allclose(image.pixdim, [2, 2, 3], rtol=1e-5)


def test_places_that_disagree_are_said(tmp_path):
    path = write(tmp_path / "a.nii.gz", qoffset_x=70)
    with pytest.warns(UserWarning, match=r"a.nii.gz: qform and sform place its corners up to 40 mm apart; the sform is taken"):
        assert np.allclose(LoadSeriesd("image")({"image": str(path)})["image"].affine, AFFINE)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ"])
def test_compression_is_known_by_the_content_and_voxels_are_nibabels(tmp_path, name):
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        image = kind(VOXELS.astype(">f4"), AFFINE)
        nib.save(image, tmp_path / "x.nii")
        content = (tmp_path / "x.nii").read_bytes()
        for packed in (content, gzip.compress(content)):
            (tmp_path / name).write_bytes(packed)
            voxels, header = read_nifti(tmp_path / name)
            np.testing.assert_array_equal(voxels, VOXELS)
            np.testing.assert_allclose(header.affine, AFFINE)


def test_scaled_voxels_are_those_of_nibabel(tmp_path):
    path = write(tmp_path / "a.nii.gz", scl_slope=0.25, scl_inter=-3)
    np.testing.assert_allclose(read_nifti(path)[0], np.asanyarray(nib.load(path).dataobj))
    np.testing.assert_allclose(read_nifti(path)[0], VOXELS * 0.25 - 3)


@pytest.mark.parametrize("fields", ["space units", "DistanceUnits"])
def test_nrrd_and_metaimage_state_units(tmp_path, fields):
    image = SimpleITK.GetImageFromArray(VOXELS.T)
    nrrd = fields == "space units"
    path = tmp_path / ("a.nrrd" if nrrd else "a.mha")

    def saved(size, line):
        image.SetSpacing([size, size, 2 * size])
        SimpleITK.WriteImage(image, str(path))
        end = b"\n\n" if nrrd else b"ElementDataFile"
        told = b"\n" + line.encode() + end if nrrd else line.encode() + b"\n" + end
        path.write_bytes(path.read_bytes().replace(end, told, 1))
        return LoadSeriesd("image")({"image": str(path)})["image"]

    line = 'space units: "{0}" "{0}" "{0}"' if nrrd else "DistanceUnits = {0}"
    for word, size in (("mm", 3.0), ("m", 3e-3), ("um", 3e3), ("cm", 0.3)):
        read = saved(size, line.format(word))
        np.testing.assert_allclose(read.pixdim, [3, 3, 6], rtol=1e-5)
        np.testing.assert_array_equal(read, VOXELS)
    with pytest.raises(DataError, match=rf"{path.name} states its lengths in 'furlong'"):
        saved(3.0, line.format("furlong"))
    with pytest.raises(DataError, match=rf"{path.name} has voxels of 0.003"):
        saved(3e-3, line.format("mm"))
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"(sizes: |DimSize = )6 5 4", rb"\g<1>30000 30000 30000", content))
    with pytest.raises(DataError, match="30000 x 30000 x 30000 voxels of 16 bits"):
        LoadSeriesd("image")({"image": str(path)})


def test_an_attacked_volume_keeps_the_unit_of_its_source(tmp_path):
    source = write(tmp_path / "case" / "a.b.nii.gz", "meter", voxels=volumes()["t1"])
    saver = AttackedVolumeSaver(tmp_path / "out", Compose([LoadSeriesd("image", ensure_channel_first=True)]))
    image = LoadSeriesd("image", ensure_channel_first=True)({"image": str(source)})["image"]
    saver.entries = {"case": {"image": str(source), "case": "case"}}
    (path,) = saver.save("case", {"image": image + 1}, image.as_tensor())
    assert path.name == "a.b_attacked.nii.gz"
    written, read = nib.load(path), nib.load(source)
    assert written.header.get_xyzt_units() == read.header.get_xyzt_units()
    np.testing.assert_allclose(written.affine, read.affine)
    np.testing.assert_array_equal(written.dataobj, np.asanyarray(read.dataobj) + 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, np.uint8])
def test_labels_a_hair_off_whole_numbers_are_taken_with_a_note(tmp_path, kind):
    data_set(tmp_path)
    path = tmp_path / "a" / "seg.nii.gz"
    label = volumes(0)["seg"].astype(kind)
    off = np.issubdtype(kind, np.floating)
    nib.save(nib.Nifti1Image(label * kind(0.9999999) if off else label, AFFINE), path)
    report = check_folder(tmp_path)
    assert not report.problems
    assert [note for note in report.notes if "taken as the nearest" in note] == report.notes and bool(report.notes) == off
    if off:
        assert "0.9999999" in report.notes[0] or "0.99999988" in report.notes[0]
    with np.errstate(all="raise"):
        item = next(item for item in subject_items(tmp_path, GLIOMA, voxels=False) if item["case"] == "a")
        loaded = loading()(item)["label"]
    assert set(loaded.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("values", "words"), [((0, 1, 2, 3), "3 is the enhancing .* BraTS 2023"), ((0, 1, 2, 2.5), "2.5;.*nearest")]
)
def test_label_values_that_are_none_are_told_in_full(tmp_path, values, words):
    data_set(tmp_path)
    label = np.array(values)[np.arange(12 * 14 * 10) % 4].reshape(12, 14, 10)
    nib.save(nib.Nifti1Image(label.astype(np.float32), AFFINE), tmp_path / "a" / "seg.nii.gz")
    with pytest.raises(DataError, match=words):
        subject_items(tmp_path, "glioma")


def test_scaled_label_files(tmp_path):
    """uint8 with a slope, as some tools save every file: 0, 51, 102, 204 times 1 / 51."""
    data_set(tmp_path)
    label = volumes(0)["seg"]
    write(tmp_path / "a" / "seg.nii.gz", voxels=(label * 51).astype(np.uint8), scl_slope=1 / 51, scl_inter=0)
    assert not check_folder(tmp_path).problems
