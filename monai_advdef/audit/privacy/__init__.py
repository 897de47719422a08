"""Names, ids, dates and paths stay with the user: pseudonyms for cases, and masking of what is written or logged."""

from __future__ import annotations

from monai_advdef.audit.privacy.masks import Mask, masking
from monai_advdef.audit.privacy.people import Person, content, hidden_groups, private, pseudonyms, read_key, write_key

__all__ = ["Mask", "Person", "content", "hidden_groups", "masking", "private", "pseudonyms", "read_key", "write_key"]
