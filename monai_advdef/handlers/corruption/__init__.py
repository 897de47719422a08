"""Corrupt the images of an evaluation as scanners and clinics do, and record it as attacks are recorded."""

from __future__ import annotations

from monai_advdef.handlers.corruption.corrupted import Corrupted
from monai_advdef.handlers.corruption.handler import CorruptionHandler

__all__ = ["Corrupted", "CorruptionHandler"]
