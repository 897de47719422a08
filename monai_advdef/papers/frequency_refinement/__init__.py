"""Paper 000, frequency refinement: tables 1 to 3, the search over step sizes, figures 1 and 2."""

from __future__ import annotations
