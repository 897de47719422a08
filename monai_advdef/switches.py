"""Options that are true or false, as a person writes them."""

from __future__ import annotations

from typing import Any


def truth(name: str, value: Any) -> bool:
    """``true``/``false`` as YAML, Python and the command line write them; the last hands over the text, and any text counts as true.

    Raises:
        ValueError: another value, naming the option.
    """
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ValueError(f"{name} must be true or false, got {value!r}")
