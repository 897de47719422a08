"""MONAI bundles of anyone, as they were published, read for an audit."""

from __future__ import annotations

from monai_advdef.audit.bundles.read import read_bundle

__all__ = ["read_bundle"]
