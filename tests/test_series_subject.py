"""Volumes loaded by the transform, subjects of several series, and every real file: as GDCM and nibabel read them, or refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from conftest import SHARED
from dicom_series import AFFINE, LPS, by_gdcm, edit, multiframe, volume
from monai.data import MetaTensor
from monai.transforms import LoadImaged
from pydicom.encaps import generate_frames

from monai_advdef.data import DataError, LoadSeriesd, check_same_grid, read_series, subject_items, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
EDGE, CT = SHARED / "edge", SHARED / "abdomen_ct" / "dicom"
NAMES = ("t1", "t1ce", "t2", "flair")


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write_series(tmp_path / "s1" / name.upper(), volume(seed=seed, low=0), AFFINE, modality="MR", description=name)
    return tmp_path / "s1"


def series_of(subject: Path) -> list[str]:
    return subject_items(subject.parent, "glioma", labelled=False)[0]["image"]


def load(entry: object, **options: object) -> MetaTensor:
    return LoadSeriesd("image", **options)({"image": entry})["image"]


def test_a_subject_of_four_series_folders_loads_to_one_grid(subject):
    folders = series_of(subject)
    assert folders == [str(subject / name) for name in ("T1", "T1CE", "T2", "FLAIR")]
    image = load(folders, modality="MR", ensure_channel_first=True)
    np.testing.assert_array_equal(image.numpy(), np.stack([volume(seed=seed, low=0) for seed in range(4)]))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-9)
    assert image.dtype == torch.float32 and image.meta["filename_or_obj"] == str(subject / "T1")
    assert load(subject / "T1", ensure_channel_first=True).shape == (1, 7, 6, 5)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ((7, 6, 5), np.diag([1.0, 1, 1.2, 1]), r"voxel size \[0.7, 0.9, 3.0\] mm against \[0.7, 0.9, 2.5\] mm"),
        ((7, 6, 5), np.eye(4) + 0.5 * np.eye(4, k=3), "corners up to 0.35 mm apart, axes up to 0.0 degrees"),
        ((7, 6, 5), np.diag([-1.0, -1, 1, 1]), "axes up to 180.0 degrees"),
        ((7, 6, 4), np.eye(4), r"shape \(7, 6, 4\) against \(7, 6, 5\)"),
    ],
)
def test_series_on_different_grids_are_refused(subject, shape, change, message):
    shutil.rmtree(subject / "T2")
    write_series(subject / "T2", volume(shape, low=0), AFFINE @ change, modality="MR", description="t2")
    with pytest.raises(DataError, match=rf"T2 and .*T1 are not on the same grid: .*{message}.*registration is not done here"):
        load([subject / name.upper() for name in NAMES])
    with pytest.raises(DataError, match="subject s1: .*are not on the same grid"):
        series_of(subject)


def test_grids_within_the_tolerance_are_the_same():
    near = nib.Nifti1Image(volume().astype(np.int16), AFFINE + 0.05 * np.eye(4, k=3))
    same = nib.Nifti1Image(volume().astype(np.int16), AFFINE)
    check_same_grid({"a": same, "b": near})
    with pytest.raises(DataError, match="b and a are not on the same grid"):
        check_same_grid({"a": same, "b": near}, tolerance=0.01)


def test_subjects_that_lack_a_series_or_have_one_twice(subject):
    shutil.copytree(subject / "T1", subject / "t1")
    with pytest.raises(DataError, match=r"subject s1 has more than one t1 in .*s1 \(T1, t1\); keep one"):
        series_of(subject)
    shutil.rmtree(subject / "t1")
    (subject / "T2").rename(subject / "t2_tse")
    with pytest.raises(DataError, match=r"subject s1 has no t2 in .*s1 \(it holds: FLAIR, T1, T1CE\); add t2.nii.gz"):
        series_of(subject)
    with pytest.raises(DataError, match="none' is not a folder"):
        series_of(subject.parent / "none" / "s1")


def test_dicom_nifti_nrrd_and_metaimage_load_alike_and_as_monai_loads_them(tmp_path):
    turn = np.array([[0, 0, 2.5, -9], [-0.7, 0, 0, 12], [0, -0.9, 0, 4], [0, 0, 0, 1]])
    write_series(tmp_path / "dicom", volume(), turn, modality="CT")
    nib.save(nib.Nifti1Image(volume().astype(np.int16), turn), tmp_path / "a.nii.gz")
    image = SimpleITK.GetImageFromArray(volume().T.astype(np.int16))
    lps, size = LPS @ turn, np.array([0.7, 0.9, 2.5])
    image.SetSpacing(size.tolist())
    image.SetDirection((lps[:3, :3] / size).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for name in ("a.nrrd", "a.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
    for name in ("dicom", "a.nii.gz", "a.nrrd", "a.mha"):
        ours, theirs = load(str(tmp_path / name)), LoadImaged("image")({"image": tmp_path / name})["image"]
        np.testing.assert_array_equal(ours.numpy(), volume())
        np.testing.assert_array_equal(theirs.numpy(), volume())
        np.testing.assert_allclose(ours.affine, turn, atol=1e-6)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
        assert ours.meta["space"] == "RAS"
    assert load([tmp_path / "dicom", tmp_path / "a.nrrd"]).shape == (2, 7, 6, 5)


def test_files_that_are_no_volumes_are_refused(tmp_path):
    for name, content, message in [
        ("a.txt", b"text", "neither DICOM nor one of .nii, .nii.gz"),
        ("b.nii.gz", b"text", "cannot be read as a NIfTI file"),
        ("c.nrrd", b"text", "could not be read by ITKReader"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} .*{message}|{name} {message}"):
            load(tmp_path / name)
    flat = nib.Nifti1Image(volume().astype(np.int16), None)
    flat.header["sform_code"], flat.header["srow_x"] = 1, [1, 0, 0, 0]
    nib.save(flat, tmp_path / "flat.nii")
    with pytest.raises(DataError, match="flat.nii has an affine that cannot be inverted"):
        load(tmp_path / "flat.nii")


@pytest.mark.realdata
@pytest.mark.skipif(not CT.is_dir(), reason="the real CT series are not here")
@pytest.mark.parametrize("name", ["chaos_set3", "totalseg_example", "dcmqi_ct3_seg"])
def test_real_series_read_as_gdcm_reads_them_and_lie_on_the_grid_of_their_labels(name):
    series = read_series(CT / name, modality="CT")
    array, affine = by_gdcm(CT / name, series.uid)
    np.testing.assert_array_equal(series.array, array)
    np.testing.assert_allclose(series.affine, affine, atol=1e-4)
    assert len(series.others) == (name == "dcmqi_ct3_seg")
    if not series.others:
        label = nib.load(CT / f"{name}_label.nii.gz")
        corners = np.array(np.meshgrid(*([0, n - 1] for n in series.shape), [1])).reshape(4, -1)
        ours, theirs = [{tuple(p) for p in np.rint(10 * (a @ corners)[:3].T)} for a in (series.affine, label.affine)]
        assert ours == theirs and label.shape == series.shape


NOTHING = "holds no DICOM slices"
NO_POSITION = r"has no ImagePositionPatient \(0020,0032\)"
NOT_GREY = r"PhotometricInterpretation \(0028,0004\) is"
EDGE_FILES = {
    "dicom/CT_small.dcm": None,
    "dicom/HTJ2K_08_RGB.dcm": NOT_GREY,
    "dicom/J2K_pixelrep_mismatch.dcm": None,
    "dicom/JPEG-LL.dcm": NO_POSITION,
    "dicom/JPEG-lossy.dcm": NO_POSITION,
    "dicom/JPEG2000.dcm": NO_POSITION,
    "dicom/MR_small_RLE.dcm": None,
    "dicom/MR_small_bigendian.dcm": None,
    "dicom/MR_small_jp2klossless.dcm": None,
    "dicom/MR_small_jpeg_ls_lossless.dcm": None,
    "dicom/MR_small_padded.dcm": None,
    "dicom/MR_truncated.dcm": r"PixelData \(7FE0,0010\) is truncated",
    "dicom/SC_rgb_rle_2frame.dcm": NOT_GREY,
    "dicom/SC_rgb_small_odd_big_endian.dcm": NOT_GREY,
    "dicom/decimal_rescale.dcm": None,
    "dicom/emri_small.dcm": NO_POSITION,
    "dicom/emri_small_RLE.dcm": NO_POSITION,
    "dicom/emri_small_big_endian.dcm": NO_POSITION,
    "dicom/emri_small_jpeg_2k_lossless_too_short.dcm": r"has no SOPClassUID \(0008,0016\): cut short",
    "dicom/examples_palette.dcm": NOT_GREY,
    "dicom/image_dfl.dcm": NO_POSITION,
    "dicom/liver.dcm": NOTHING,
    "dicom/liver_nonbyte_aligned.dcm": NOTHING,
    "dicom/no_meta.dcm": f"{NOTHING}: 1 file.* without the mark DICM",
    "dicom/parametric_map_float.dcm": NOTHING,
    "dicom/siemens_dwi_1000.dcm.gz": f"{NOTHING}: 1 file.* without the mark DICM.*unpacked",
    "dicom/slicethickness_empty_string.dcm": r"without a positive SliceThickness \(0018,0050\)",
    "dicom_missing_slice": r"16581.dcm and .*16579.dcm lie 4.000 mm apart .*\(0020,0032\), others 2.000: 1 slice\(s\) missing",
    "dicom_multiframe_ct": None,
    "dicom_multiframe_ct/image": None,
    "dicom_multiframe_ct/mf.dcm": None,
    "dicom_multiframe_ct/label.seg.dcm": NOTHING,
    "dicom_oblique_series": None,
    "dicom_rtstruct_breast": None,
    "dicom_rtstruct_breast/rtss.dcm": NOTHING,
    "dicom_rtstruct_phantom": None,
}
NOT_READ = {
    "minc1_1_scale.mnc": "neither DICOM nor one of",
    "scaled+tlrc.BRIK": "neither DICOM nor one of",
    "scaled+tlrc.HEAD": "neither DICOM nor one of",
    "test.mgz": "neither DICOM nor one of",
    "BallBinary30x30x30.raw": "neither DICOM nor one of",
    "breast1_image.raw": "neither DICOM nor one of",
    "BallBinary30x30x30_bz2.nrrd": "ITKReader.*bzip2",
    "test_simple4d_raw.nrrd": "ITKReader.*domain axes",
}


@pytest.mark.realdata
@pytest.mark.skipif(not EDGE.is_dir(), reason="the odd files are not here")
class TestOddFiles:
    def test_every_file_is_judged_here(self):
        assert {f"dicom/{p.name}" for p in (EDGE / "dicom").iterdir()} == {n for n in EDGE_FILES if n.startswith("dicom/")}
        assert {n for n in EDGE_FILES if "/" not in n} == {p.name for p in EDGE.glob("dicom_*")}

    @pytest.mark.parametrize("name", EDGE_FILES)
    def test_dicom(self, name):
        message = EDGE_FILES[name]
        if message:
            with pytest.raises(DataError, match=rf"{re.escape(name)}.*{message}"):
                read_series(EDGE / name)
            return
        series = read_series(EDGE / name)
        single = len(set(series.files)) == 1
        array, affine = by_gdcm(series.files[0]) if single else by_gdcm(EDGE / name, series.uid)
        np.testing.assert_array_equal(series.array, array.astype(np.float32))
        if series.shape[2] == 1:  # GDCM takes the slice to be 1 mm thick, or as SpacingBetweenSlices says
            affine[:3, 2] *= float(pydicom.dcmread(series.files[0]).SliceThickness) / np.linalg.norm(affine[:3, 2])
        np.testing.assert_allclose(series.affine, affine, atol=1e-4)

    @pytest.mark.parametrize("folder", ["nifti", "nrrd", "mha"])
    def test_volume_files(self, folder):
        for path in sorted((EDGE / folder).iterdir()):
            if path.name in NOT_READ:
                with pytest.raises(DataError, match=rf"{re.escape(path.name)}.*{NOT_READ[path.name]}"):
                    load(path)
            elif folder == "nifti":
                there, here = nib.load(path), load(path)
                np.testing.assert_array_equal(here.numpy(), np.asarray(there.dataobj, np.float32))
                np.testing.assert_allclose(here.affine, there.affine, atol=1e-6)
            else:
                np.testing.assert_array_equal(load(path).numpy(), SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T)

    def test_rescale_in_functional_groups_is_applied_once_where_gdcm_decodes(self, tmp_path):
        write_series(tmp_path / "ct", volume((64, 64, 2)), AFFINE, modality="CT")
        edit(tmp_path / "ct", lambda d: d.update({"RescaleSlope": "2", "RescaleIntercept": "-500"}))
        dataset = multiframe(sorted((tmp_path / "ct").iterdir()), np.arange(2))
        source = pydicom.dcmread(EDGE / "dicom/MR_small_jpeg_ls_lossless.dcm")
        dataset.PixelData = pydicom.encaps.encapsulate([next(generate_frames(source.PixelData, number_of_frames=1))] * 2)
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
        dataset.save_as(tmp_path / "multi.dcm")
        stored = pydicom.dcmread(EDGE / "dicom/MR_small_RLE.dcm").pixel_array.T
        read = read_series(tmp_path / "multi.dcm").array
        np.testing.assert_array_equal(read, np.repeat(stored[:, :, None], 2, 2) * 2.0 - 500)
