"""Phantom data sets for the five tasks, drawn case by case from a seed and written as the files a real data set has."""

from __future__ import annotations
