"""Writing a volume as an uncompressed DICOM series: what phantoms and tests need, with true geometry and reproducible UIDs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from monai_advdef.errors import DataError

__all__ = ["write_series"]

STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
INTERCEPT = {"CT": -1024, "MR": 0}


def write_series(
    folder: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray,
    *,
    modality: str,
    description: str = "",
    patient: str = "phantom",
    seed: int = 0,
) -> list[Path]:
    """Write a volume as single-frame DICOM files ``slice_0001.dcm``, ... in ascending slice order; the files written.

    Values are rounded and stored as int16; CT (HU) with RescaleIntercept -1024. UIDs follow from ``seed``, ``patient``, ``modality``
    and ``description``; series of one seed and patient share study and frame of reference. DICOM stacks are right-handed, so
    a volume whose affine has a negative determinant is stored with its third axis reversed: it reads back flipped, voxels
    at the same places in the patient.

    Args:
        folder: made if absent; must hold no files other than those this series overwrites.
        array: (X, Y, Z), HU or MR intensity.
        affine: (4, 4), voxel to RAS in mm, of perpendicular axes.
        modality: ``"CT"`` or ``"MR"``.

    Raises:
        DataError: another modality, a volume or affine that DICOM slices cannot hold, values outside int16, or a folder in use.
    """
    root = Path(folder)
    array, affine = np.asarray(array), np.asarray(affine, float)
    if modality not in STORAGE:
        raise DataError(f"modality must be one of {sorted(STORAGE)}, got {modality!r}")
    _check_grid(array, affine)
    if np.linalg.det(affine[:3, :3]) < 0:
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, array.shape[2] - 1], [0, 0, 0, 1.0]])
        array = array[:, :, ::-1]
    stored = _stored(array, INTERCEPT[modality])
    paths = [root / f"slice_{index + 1:04d}.dcm" for index in range(array.shape[2])]
    if root.exists() and (left := sorted({p.name for p in root.iterdir()} - {p.name for p in paths})):
        raise DataError(f"{root} already holds {left[0]} and {len(left) - 1} more; write a series into a folder of its own")
    root.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        dataset = _header(path, affine, index, modality, description, patient, seed)
        dataset.Rows, dataset.Columns = stored.shape[1], stored.shape[0]
        dataset.PixelData = np.ascontiguousarray(stored[:, :, index].T).tobytes()
        dataset.save_as(path, enforce_file_format=True)
    return paths


def _check_grid(array: np.ndarray, affine: np.ndarray) -> None:
    if array.ndim != 3 or not array.size:
        raise DataError(f"array must be a volume (X, Y, Z), got shape {array.shape}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError(f"affine must be a finite (4, 4) matrix, got {affine.tolist()}")
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if not (size > 0).all():
        raise DataError(f"affine has an axis of length 0 (voxel size {size.tolist()} mm)")
    cosines = affine[:3, :3] / size
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-4:
        raise DataError("affine is sheared: DICOM slices have perpendicular axes; resample the volume first")


def _stored(array: np.ndarray, intercept: int) -> np.ndarray:
    if not np.isfinite(array).all():
        raise DataError("array holds NaN or infinite values; replace them before writing")
    values = np.rint(array.astype(np.float64)) - intercept
    limits = np.iinfo(np.int16)
    if values.min() < limits.min or values.max() > limits.max:
        low, high = limits.min + intercept, limits.max + intercept
        raise DataError(f"array values must lie in {low}..{high}, got {array.min():g}..{array.max():g}; scale the array")
    return values.astype("<i2")


def _decimals(values: np.ndarray) -> list[DSfloat]:
    """Decimal strings of at most 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _header(path: Path, affine: np.ndarray, index: int, modality: str, description: str, patient: str, seed: int) -> FileDataset:
    """Everything of a slice but its pixels."""
    study = [str(seed), patient]
    series = [*study, modality, description]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = STORAGE[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[*series, str(index)])
    dataset = FileDataset(str(path), pydicom.Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*study, "study"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[*study, "frame of reference"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*series, "series"])
    dataset.Modality, dataset.SeriesDescription, dataset.ImageType = modality, description, ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = patient, patient, "", ""
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "1", "20000101", "000000", ""
    dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.PositionReferenceIndicator = "", "", ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, index + 1

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    size = np.linalg.norm(lps[:3, :3], axis=0)
    dataset.ImagePositionPatient = _decimals((lps @ [0, 0, index, 1])[:3])
    dataset.ImageOrientationPatient = _decimals((lps[:3, :2] / size[:2]).T.ravel())
    dataset.PixelSpacing = _decimals(size[[1, 0]])
    dataset.SliceThickness = _decimals(size[2:])[0]
    dataset.SpacingBetweenSlices = _decimals(size[2:])[0]

    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    if modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = INTERCEPT["CT"], 1, "HU"
    return dataset
