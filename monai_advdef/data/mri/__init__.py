"""MRI of several series a subject: layouts, checks of headers and voxels, normalisation, bias correction."""

from __future__ import annotations
