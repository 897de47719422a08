"""From an attack's name and options, as an overlay or a suite writes them, to the attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from monai_advdef.attacks.core import Attack
from monai_advdef.errors import nearest


def attack_kinds() -> dict[str, type[Attack]]:
    """The attacks that can be asked for, by name."""
    from monai_advdef import attacks

    found = {name: getattr(attacks, name) for name in attacks.__all__}
    return {n: k for n, k in found.items() if isinstance(k, type) and issubclass(k, Attack) and k is not Attack}


def named_attack(name: str, options: Mapping[str, Any], others: Iterable[str] = ()) -> Attack:
    """The attack called ``name`` with these options; ``others`` are words that would have been known, too.

    Raises:
        ValueError: an unknown attack or option, with the nearest known one; an option's value that the attack refuses.
    """
    kinds = attack_kinds()
    if name not in kinds:
        raise ValueError(f"unknown attack {name!r}; {nearest(str(name), kinds)}")
    known = [field.name for field in fields(kinds[name])]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; {nearest(str(option), [*known, *others])}")
    return kinds[name](**options)
