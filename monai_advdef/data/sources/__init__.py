"""What a data set is (a known layout, patterns, a list, a plain folder), and its cases as pairs and items for a task."""

from __future__ import annotations
