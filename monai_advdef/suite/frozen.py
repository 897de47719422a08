"""The suites that this package has published: what their names stand for, version by version.

A digest enters here when a suite is frozen (``python -m monai_advdef.suite FILE`` prints it) and never changes afterwards: other
contents are another version.
"""

from __future__ import annotations

FROZEN: dict[str, dict[int, str]] = {
    "smoke": {1: "5e6b5325939dd502"},
    "standard": {1: "c8d10daa9c9a34eb"},
    "full": {1: "234e8fd50ab6f70e"},
}
"""Digest by name and version."""
