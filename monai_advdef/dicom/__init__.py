"""Volumes from files: DICOM series, SEG and RTSTRUCT, NIfTI, NRRD and MetaImage, all in mm; the transforms also need MONAI."""

from __future__ import annotations
