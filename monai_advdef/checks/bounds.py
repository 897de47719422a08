"""Is the attacker given the rights that the bundle says?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject
from monai_advdef.threat import ThreatModel

COMPARED = ("norm", "value_range", "unit", "relative", "region")


class Bounds(Check):
    """Another norm, range, unit or region than the bundle's ``threat_def`` makes a number that stands beside no other; how much may
    be changed (eps) is the question asked, and free."""

    name = "Threat"
    passes = "none"
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict | None:
        """``suspect`` where a field differs, with both values; ``None`` where the bundle does not say."""
        mine, theirs = subject.threat, subject.declared
        if theirs is None:
            return None
        differing = [name for name in COMPARED if not same(getattr(mine, name), getattr(theirs, name))]
        if mine.norm == "unbounded" != theirs.norm:  # an attack without a bound is one by its nature, and says so
            differing.remove("norm")
        if differing:
            told = "; ".join(
                f"{name} {shown(getattr(mine, name))}, the bundle's is {shown(getattr(theirs, name))}" for name in differing
            )
            return self.suspect(f"the attack was run under another threat model: {told}", fields=len(differing))
        return self.ok(f"norm {mine.norm} in {shown(mine.value_range)} {mine.unit}, as the bundle says")


def same(a: Any, b: Any) -> bool:
    """Whether two fields of threat models say the same; one pair ``(lo, hi)`` is that pair for every channel."""
    if any(x is None or isinstance(x, (str, bool)) for x in (a, b)):
        return type(a) is type(b) and a == b
    first, second = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    if first.shape != second.shape and {first.numel(), second.numel()} & {2}:
        first, second = torch.broadcast_tensors(first.reshape(-1, 2), second.reshape(-1, 2))
    return torch.equal(first, second)


def shown(value: Any) -> str:
    """A field in words."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(shown(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else "a mask" if isinstance(value, torch.Tensor) else str(value)


def declared(given: ThreatModel | Mapping[str, Any] | None) -> ThreatModel | None:
    """A bundle's ``threat_def`` as a threat model; ``None`` where the bundle says nothing."""
    if given is None or isinstance(given, ThreatModel):
        return given
    return ThreatModel(**{"eps": 0.0, **given}) if given else None
