"""Picture and mask files: the one reader that check, dataset, prepare, training and inference share."""

from __future__ import annotations
