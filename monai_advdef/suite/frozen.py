"""The suites that this package has published: what their names stand for, version by version.

A digest enters here when a suite is frozen (``python -m monai_advdef.suite FILE`` prints it) and never changes afterwards: other
contents are another version.
"""

from __future__ import annotations

FROZEN: dict[str, dict[int, str]] = {
    "smoke": {1: "b2ec71c96622bf9b"},
    "standard": {1: "285aa69341e1d87e"},
    "full": {1: "afd006c761f18716"},
}
"""Digest by name and version."""
