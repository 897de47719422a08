"""Paper 003, the non-local context encoder network: networks over attack strengths."""

from __future__ import annotations
