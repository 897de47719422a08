"""Abdominal CT: label names and organ maps, layouts of scans, labels that cover some organs only, and transforms."""

from __future__ import annotations
