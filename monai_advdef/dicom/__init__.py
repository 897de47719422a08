"""DICOM: series read as volumes, written, SEG and RTSTRUCT as label maps. pydicom and numpy; the transforms also need MONAI."""

from __future__ import annotations
