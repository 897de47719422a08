"""Paper 001, robustifying segmentation of brain tumours: cross-validated networks, attacked and defended."""

from __future__ import annotations
