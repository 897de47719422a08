"""Pixel values of DICOM slices: decoded by pydicom, or by SimpleITK's GDCM where pydicom has no decoder for the syntax."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid

from monai_advdef.dicom.series_slices import BROKEN, UNCOMPRESSED, Slice, tag
from monai_advdef.errors import DataError, reading

HU_LIMITS = (-10240.0, 30710.0)  # the widest CT scale in use: 12 bits in steps of 10 from -10240 ("extended HU", for metal)
PIXEL_GROUP = 0x0028  # of the tags that say how pixels are laid out


def read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Values of the slices, rescaled (HU for CT), as ``(slice, row, column)`` float32; slope 1 and intercept 0 where absent.

    Raises:
        DataError: truncated or damaged pixel data, a compressed syntax that nothing here decodes, or CT values (other than
            PixelPaddingValue) that no scanner writes, naming file and tag.
    """
    path, frames = slices[0].path, stored_values(slices[0].path)  # decoded before room for all is made
    volume = np.empty((len(slices), *slices[0].shape), np.float32)
    for plane, item in zip(volume, slices):
        if item.path != path:
            path, frames = item.path, stored_values(item.path)
        slope, intercept = (1.0 if item.slope is None else item.slope), (item.intercept or 0.0)
        plane[:] = frames[item.frame] * np.float64(slope) + intercept
        if item.modality == "CT":
            _check_hu(item, frames[item.frame], plane)
    return volume


def _check_hu(item: Slice, stored: np.ndarray, plane: np.ndarray) -> None:
    """Refuse values beyond the CT scale but declared padding, whose tag has 16 bits, of either sign whatever pixels have."""
    low, high = HU_LIMITS
    outside = (plane < low) | (plane > high)
    if item.padding is not None and outside.any():
        outside &= (stored.astype(np.int64) - int(item.padding)) % (1 << 16) != 0
    if outside.any():
        raise DataError(
            f"{item.path}: values must lie in {low:g}..{high:g} HU, got {plane[outside].min():g}..{plane[outside].max():g}; correct "
            f"{tag('RescaleSlope')} {item.slope:g}, {tag('RescaleIntercept')} {item.intercept:g} or {tag('PixelRepresentation')}, "
            f"or declare {tag('PixelPaddingValue')}"
        )


def stored_values(path: Path) -> np.ndarray:
    """The values in a file before rescaling, ``(frame, row, column)``; errors as :func:`read_pixels`."""
    with reading(path, BROKEN, "fetch the file again"):
        dataset = pydicom.dcmread(path)
        shape = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        frames = dataset.pixel_array
    except Exception as error:  # the decoders raise whatever their C libraries do
        if syntax in UNCOMPRESSED:
            raise DataError(f"{path}: {tag('PixelData')} is truncated or damaged ({error}); fetch the file again") from error
        frames = _decode_by_gdcm(path, dataset, error)
    if frames.size != np.prod(shape):
        raise DataError(f"{path}: {tag('PixelData')} has the shape {frames.shape}, by its header {shape}; fetch the file again")
    return frames.reshape(shape)


def _decode_by_gdcm(path: Path, dataset: Dataset, reason: Exception) -> np.ndarray:
    """Decode through a copy that holds the pixels alone, since GDCM would rescale."""
    syntax = dataset.file_meta.TransferSyntaxUID
    bare = dataset.group_dataset(PIXEL_GROUP)
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        bare.pop(keyword, None)
    bare["PixelData"] = dataset["PixelData"]
    bare.SOPClassUID, bare.SOPInstanceUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "slice.dcm"
            bare.save_as(copy, enforce_file_format=True)
            return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(copy), imageIO="GDCMImageIO"))
    except Exception as error:
        if _decodable(syntax):
            raise DataError(f"{path}: {tag('PixelData')} ({syntax.name}) is truncated or damaged; fetch the file again") from reason
        raise DataError(
            f"{path}: no decoder for {tag('TransferSyntaxUID')} {syntax} ({syntax.name}); "
            "install one for pydicom (pylibjpeg with its plugins) or decompress the series with gdcmconv --raw"
        ) from error


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
