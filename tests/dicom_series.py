"""A small DICOM series to spoil, and SimpleITK's reading of one to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = np.array([[-0.7, 0, 0, 20], [0, -0.9, 0, 30], [0, 0, 2.5, -40], [0, 0, 0, 1]])


def volume(shape: tuple[int, ...] = (7, 6, 5), seed: int = 0, low: int = -1024) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, 1500, shape)


def by_gdcm(source: Path, uid: str = "") -> tuple[np.ndarray, np.ndarray]:
    """What SimpleITK makes of a folder or file: (X, Y, Z) and the affine turned to RAS."""
    reader = SimpleITK.ImageSeriesReader()
    if source.is_dir():
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source), uid))
        image = reader.Execute()
    else:
        image = SimpleITK.ReadImage(str(source), imageIO="GDCMImageIO")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, LPS @ affine


def edit(folder: Path, change: Callable[[Dataset], object], only: int | None = None) -> None:
    for index, path in enumerate(sorted(folder.glob("*.dcm"))):
        if only is None or index == only:
            dataset = pydicom.dcmread(path)
            change(dataset)
            dataset.save_as(path)


def multiframe(paths: list[Path], order: np.ndarray) -> Dataset:
    """The slices as one enhanced CT file, frames in ``order``: geometry and rescale in functional groups alone."""
    slices = [pydicom.dcmread(paths[index]) for index in order]
    result, frames = pydicom.dcmread(paths[0]), []
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    result.NumberOfFrames, result.PixelData = len(slices), b"".join(d.PixelData for d in slices)

    def group(source: Dataset, *keywords: str) -> Sequence:
        inside = Dataset()
        for keyword in keywords:
            inside[keyword] = source[keyword]
        return Sequence([inside])

    for source in slices:
        frame = Dataset()
        frame.PlanePositionSequence = group(source, "ImagePositionPatient")
        frame.PixelValueTransformationSequence = group(source, "RescaleSlope", "RescaleIntercept")
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(slices[0], "ImageOrientationPatient")
    shared.PixelMeasuresSequence = group(slices[0], "PixelSpacing", "SliceThickness")
    result.SharedFunctionalGroupsSequence, result.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        del result[keyword]
    return result
