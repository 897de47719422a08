"""Folders as data sets are distributed, one small file a layout."""

from __future__ import annotations
