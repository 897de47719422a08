"""The specimens: victim, careless attack, ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from broken.defenses import Posterised, PseudoNoise, SquareRootOfNothing, Thermometer
from broken.networks import ScaledLogits
from monai_advdef import Victim
from monai_advdef.attacks import FGSM, PGD, Attack
from monai_advdef.networks.standardized import Standardized

OURS = PGD(steps=20, step_size=None, objective="dice_ce")


@dataclass(frozen=True)
class Specimen:
    """A broken defence: ``deployed`` makes the victim as it is scored and as we attack it, ``careless`` as others see it."""

    name: str
    deployed: Callable[[nn.Module], Victim]
    careless: Callable[[nn.Module], Victim]
    naive: Attack = FGSM()
    ours: Attack = OURS


def _net(trained: nn.Module) -> nn.Module:
    return Standardized(trained, mean=127.5, std=127.5)


def _obfuscated(kind: type) -> dict[str, Callable[[nn.Module], Victim]]:
    return {
        "deployed": lambda t: Victim(_net(t), defense=kind(honest=True)),
        "careless": lambda t: Victim(_net(t), defense=kind(honest=False)),
    }


def _scaled(trained: nn.Module) -> Victim:
    return Victim(ScaledLogits(_net(trained), 1e5))


ZOO = [
    Specimen("logits times 100000", _scaled, _scaled, ours=PGD(steps=20, step_size=None, objective="margin")),
    Specimen("posterised", **_obfuscated(Posterised)),
    Specimen("thermometer", **_obfuscated(Thermometer)),
    Specimen("pseudo-noise", **_obfuscated(PseudoNoise)),
    Specimen("square root of nothing", **_obfuscated(SquareRootOfNothing)),
]
