"""All checks on a few cases, in the order in which a doubting reader asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from monai_advdef.attacks import Attack
from monai_advdef.checks.black_box import BlackBox
from monai_advdef.checks.bounds import Bounds
from monai_advdef.checks.convergence import Convergence
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.differences import Differences
from monai_advdef.checks.foreground import Foreground
from monai_advdef.checks.gradients import Gradients
from monai_advdef.checks.outputs import Outputs
from monai_advdef.checks.randomness import Randomness
from monai_advdef.checks.scaling import Scaling
from monai_advdef.checks.stored import Stored
from monai_advdef.checks.subject import Subject, make_subject
from monai_advdef.checks.unbounded import Unbounded
from monai_advdef.errors import nearest
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim

FIRST: tuple[Check, ...] = (Randomness(), Outputs())
"""What the others rest on: after a ``broken`` of theirs nothing more is asked."""
THEN: tuple[Check, ...] = (Foreground(), Bounds(), Gradients())
LAST: tuple[Check, ...] = (Differences(), Scaling(), Convergence(), BlackBox(), Unbounded(), Stored())
CHECKS: dict[str, Check] = {check.name: check for check in FIRST + THEN + LAST}


def run_checks(
    victim: Victim,
    threat: ThreatModel,
    image: Tensor,
    label: Tensor,
    *,
    seed: int | Sequence[int] = 0,
    only: Sequence[str] = (),
    **known: Any,
) -> list[Verdict]:
    """What the checks find about an attack on a few cases.

    A check that does not apply gives no verdict. Where no gradient comes back, those that need one are left out; where the outputs
    are no logits, or a case's answer depends on its batch, all others are.

    Args:
        victim, threat: the deployed victim as the attacker sees it, and what the attacker may do.
        image, label: as :func:`monai_advdef.run` takes them; few cases, four say enough.
        seed: one whole number, or one per case.
        only: names of :data:`CHECKS`; all of them by default.
        known: what the checks may know besides: ``attack`` (by default PGD of 20 steps on Dice, without a bound ASMA),
            ``adversarial`` (the images that it left), ``target``, ``declared`` (the bundle's threat model), ``source`` (a victim to
            transfer from), ``others`` (of a suite's images, the members beside ``attack``), ``names``.

    Raises:
        ValueError: an unknown name in ``only``; what :func:`monai_advdef.run` says of such a batch, or of images that the threat
            model does not fit.
    """
    for name in only:
        if name not in CHECKS:
            raise ValueError(f"unknown check {name!r}; {nearest(str(name), CHECKS)}")
    subject = make_subject(victim, threat, image, label, seed=seed, **known)
    victim.require_range(subject.image)
    _ = subject.ball  # says at once where image and threat model do not belong together
    found: list[Verdict] = []
    for check in FIRST:
        found += _answers(check, subject)
        if found[-1].verdict == "broken":
            return _asked(found, only)
    for check in THEN:
        found += _answers(check, subject)
    blind = found[-1].verdict == "broken"
    if blind and not found[-1].numbers:  # no gradient at all: no attack can be run
        return _asked(found, only)
    for check in LAST:
        if (not only or check.name in only) and not (blind and check.needs_gradient):
            found += _answers(check, subject)
    return _asked(found, only)


def cost(attacks: Sequence[Attack], threat: ThreatModel) -> tuple[int, int]:
    """Forward and backward passes that all checks together take of each case at most.

    Args:
        attacks: the attack, or the members of a suite.
        threat: its bound.
    """
    told = [check.cost(attacks, threat) for check in CHECKS.values()]
    return sum(forwards for forwards, _ in told), sum(backwards for _, backwards in told)


def _answers(check: Check, subject: Subject) -> list[Verdict]:
    """The verdict, if there is one; what cannot be checked is not trusted."""
    try:
        verdict = check(subject)
    except ValueError as error:
        return [check.suspect(f"this could not be checked: {error}")]
    return [] if verdict is None else [verdict]


def _asked(found: Sequence[Verdict], only: Sequence[str]) -> list[Verdict]:
    return [verdict for verdict in found if not only or verdict.name in only]
