"""DICOM series that make no even volume: each refused with file, tag and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicom_series import AFFINE, edit, volume
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2KLossless

from monai_advdef.data import DataError, read_series, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "ct", volume(), AFFINE, modality="CT", description="thorax")
    return tmp_path / "ct"


def without(keyword: str) -> Callable[[Dataset], object]:
    return lambda dataset: dataset.pop(keyword)


def with_(**tags: object) -> Callable[[Dataset], object]:
    return lambda dataset: [setattr(dataset, keyword, value) for keyword, value in tags.items()]


def moved(*offset: float) -> Callable[[Dataset], object]:
    return lambda d: setattr(d, "ImagePositionPatient", [a + b for a, b in zip(d.ImagePositionPatient, offset)])


def tilted(d: Dataset) -> None:
    moved(0, 0.4 * d.InstanceNumber, 0)(d)
    d.GantryDetectorTilt = 9


def unknown_syntax(d: Dataset) -> None:
    d.file_meta.TransferSyntaxUID = HTJ2KLossless
    d.PixelData = pydicom.encaps.encapsulate([bytes(16)])
    d["PixelData"].is_undefined_length = True


def broken_j2k(d: Dataset) -> None:
    unknown_syntax(d)
    d.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless


TURNED = [0, 1, 0, 1, 0, 0]
THIRD = "slice_0003.dcm"
BAD = {
    "missing slice": (
        None,
        2,
        r"slice_0002.dcm and slice_0004.dcm lie 5.000 mm .*\(0020,0032\), others 2.500: 1 slice\(s\) missing",
    ),
    "two missing": (moved(0, 0, 5), 4, r"slice_0004.dcm and slice_0005.dcm lie 7.500 mm .* 2 slice\(s\) missing; add"),
    "duplicate": (moved(0, 0, -2.5), 2, r"slice_0002.dcm and slice_0003.dcm lie at the same ImagePositionPatient.*duplicated"),
    "uneven": (moved(0, 0, 0.6), 2, r"lie 3.100 mm apart.*not uniform; resample"),
    "gantry tilt": (tilted, None, r"slice_0005.dcm: ImagePositionPatient.* 1.600 mm beside .*GantryDetectorTilt .* 9\).*resampling"),
    "shifted slice": (moved(3, 0, 0), 2, f"{THIRD}: ImagePositionPatient .* lies 3.000 mm beside"),
    "localizer": (with_(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), 2, rf"{THIRD}: ImageType \(0008,0008\) says LOCALIZER"),
    "mosaic": (with_(ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"]), 2, f"{THIRD}: ImageType .* MOSAIC.*dcm2niix"),
    "no slope": (without("RescaleSlope"), 2, rf"{THIRD} is CT without RescaleSlope \(0028,1053\).*export"),
    "no intercept": (without("RescaleIntercept"), 2, rf"{THIRD} is CT without RescaleIntercept \(0028,1052\)"),
    "slope 0": (with_(RescaleSlope=0), 2, f"{THIRD}: RescaleSlope .* is 0"),
    "HU too high": (
        with_(RescaleSlope=100),
        2,
        rf"{THIRD}: values must lie in -10240..30710 HU, got .*RescaleSlope \(0028,1053\) 100",
    ),
    "HU too low": (with_(RescaleIntercept=-20000), 2, rf"{THIRD}: .* HU, got -.*RescaleIntercept \(0028,1052\) -20000"),
    "no position": (without("ImagePositionPatient"), 2, rf"{THIRD} has no ImagePositionPatient \(0020,0032\).*export"),
    "no orientation": (without("ImageOrientationPatient"), 2, rf"{THIRD} has no ImageOrientationPatient \(0020,0037\)"),
    "no spacing": (without("PixelSpacing"), 2, rf"{THIRD} has no PixelSpacing \(0028,0030\)"),
    "spacing 0": (with_(PixelSpacing=[0.9, 0]), 2, rf"{THIRD}: PixelSpacing .* must be positive, got \[0.9, 0.0\] mm"),
    "short position": (with_(ImagePositionPatient=[1, 2]), 2, f"{THIRD}: ImagePositionPatient .* must hold 3 finite"),
    "skewed": (with_(ImageOrientationPatient=[1, 0, 0, 0.1, 1, 0]), None, r"ImageOrientationPatient \(0020,0037\) .*perpendicular"),
    "no direction": (with_(ImageOrientationPatient=[0] * 6), None, "ImageOrientationPatient .*perpendicular"),
    "other orientation": (with_(ImageOrientationPatient=TURNED), 2, rf"{THIRD}: ImageOrientationPatient .* in slice_0001.dcm it is"),
    "other spacing": (with_(PixelSpacing=[0.9, 0.8]), 2, rf"{THIRD}: PixelSpacing .*\[0.9, 0.8\], in slice_0001.dcm"),
    "other size": (with_(Rows=7, Columns=6), 2, f"{THIRD}: Rows .* is 7 x 6 columns, in slice_0001.dcm it is 6 x 7"),
    "colour": (with_(PhotometricInterpretation="RGB"), 2, rf"{THIRD}: PhotometricInterpretation \(0028,0004\) is 'RGB'"),
    "other modality": (with_(Modality="PT"), 2, rf"{THIRD}: Modality \(0008,0060\) is 'PT', expected 'CT'"),
    "short pixels": (with_(PixelData=bytes(40)), 2, rf"{THIRD}: PixelData \(7FE0,0010\) is truncated or damaged"),
    "no pixels": (without("PixelData"), 2, rf"{THIRD} is CT Image Storage without PixelData \(7FE0,0010\)"),
    "no decoder": (
        unknown_syntax,
        2,
        rf"{THIRD}: no decoder for TransferSyntaxUID \(0002,0010\) 1.2.840.10008.1.2.4.201 \(.*gdcmconv",
    ),
    "broken codestream": (broken_j2k, 2, rf"{THIRD}: PixelData .*JPEG 2000.* is truncated or damaged; fetch"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_series_is_refused_with_file_tag_and_remedy(series, case):
    change, only, message = BAD[case]
    if change is None:
        sorted(series.iterdir())[only].unlink()
    else:
        edit(series, change, only)
    with pytest.raises(DataError, match=message):
        read_series(series, modality="CT")


def test_folders_and_files_that_hold_no_slices(tmp_path, series):
    with pytest.raises(DataError, match="does not exist"):
        read_series(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no DICOM slices.*give the folder"):
        read_series(tmp_path / "empty")
    edit(series, lambda d: d.pop("SliceThickness"), only=0)
    with pytest.raises(DataError, match=r"slice_0001.dcm is a single slice without a positive SliceThickness \(0018,0050\)"):
        read_series(series / "slice_0001.dcm")
    (series / "slice_0006.dcm").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="slice_0006.dcm is called .dcm, without the mark DICM.*fetch"):
        read_series(series)


def test_a_file_cut_short_anywhere_is_refused(series):
    path = series / "slice_0005.dcm"
    content = path.read_bytes()
    for size in [*range(120, 220), *range(220, len(content), 17), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="slice_0005.dcm.*(fetch|without the mark DICM)"):
            read_series(series if size % 9 == 0 else path)
