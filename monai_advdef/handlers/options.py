"""From the flat options of an overlay (``attack: PGD, eps: 8, steps: 10``) to an attack and a threat model."""

from __future__ import annotations

import dataclasses
from typing import Any

from monai_advdef import attacks
from monai_advdef.attacks import Attack
from monai_advdef.errors import nearest
from monai_advdef.switches import truth
from monai_advdef.threat import ThreatModel

THREAT_FIELDS = tuple(f.name for f in dataclasses.fields(ThreatModel))


def attack_names() -> list[str]:
    """Names of the attacks that can be asked for."""
    return [
        n
        for n in attacks.__all__
        if isinstance(getattr(attacks, n), type) and issubclass(getattr(attacks, n), Attack) and n != "Attack"
    ]


def resolve(attack: str | Attack, threat: ThreatModel | None, options: dict[str, Any]) -> tuple[Attack, ThreatModel]:
    """The attack and the threat model that the options describe.

    Raises:
        ValueError: an unknown attack, an unknown option (each with the nearest known one), or options beside a ready-made object.
    """
    bounds = {k: options.pop(k) for k in THREAT_FIELDS if k in options}
    if threat is not None and bounds:
        raise ValueError(f"{', '.join(bounds)} given beside a ready-made threat model; put them into the threat model")
    if isinstance(attack, Attack):
        if options:
            raise ValueError(f"{', '.join(options)} given beside a ready-made attack; put them into the attack")
        return attack, threat or ThreatModel(**bounds)
    if attack not in attack_names():
        raise ValueError(f"unknown attack {attack!r}; {nearest(str(attack), attack_names())}")
    kind = getattr(attacks, attack)
    known = {f.name: f.type for f in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            raise ValueError(f"{attack} has no option {name!r}; {nearest(name, [*known, *THREAT_FIELDS])}")
    options = {k: truth(k, v) if known[k] == "bool" else v for k, v in options.items()}
    return kind(**options), threat or ThreatModel(**bounds)
