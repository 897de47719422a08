"""Defences with an apparent gain: each as it is deployed, beside the undefended network that is its twin.

Careless is who attacks the network without its defence, or through the defence's own gradient where that is 0; both by the PGD that
most papers run: cross-entropy, ten steps of one length.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broken.apparent import Detector, Jump, Median, RandomNoise, RandomResize, Rounding
from broken.networks import ScaledLogits
from monai_advdef import Victim
from monai_advdef.attacks import PGD
from monai_advdef.defenses import JPEG, Defense, FrequencyRefinement
from monai_advdef.networks.standardized import Standardized
from monai_advdef.training.distillation import SoftCrossEntropy, student

CARELESS = PGD(steps=10, objective="cross_entropy", schedule="constant")


@dataclass(frozen=True)
class Twin:
    """``deployed`` makes the defended victim of an undefended network; ``blind``: the careless attack it through its own gradient
    in place of the network alone; ``objectives``: of the suite."""

    name: str
    deployed: Callable[[nn.Module], Victim]
    blind: Callable[[nn.Module], Victim] | None = None
    objectives: tuple[str, ...] = ("dice",)


def undefended(network: nn.Module) -> Victim:
    """The twin."""
    return Victim(standardized(network))


def standardized(network: nn.Module) -> nn.Module:
    """The network for grey levels."""
    return Standardized(network, mean=127.5, std=127.5)


def distilled(teacher: nn.Module, image: Tensor, temperature: float = 100.0) -> nn.Module:
    """A student of the teacher's soft answers, deployed at temperature 1: its loss is flat wherever it is right."""
    pupil = student(copy.deepcopy(teacher), temperature=temperature)
    loss, x = SoftCrossEntropy(temperature=temperature), (image - 127.5) / 127.5
    optimizer = torch.optim.AdamW(pupil.parameters(), 1e-3)
    with torch.no_grad():
        soft = teacher(x).softmax(1)
    for _ in range(5):
        optimizer.zero_grad()
        loss(pupil(x), soft).backward()
        optimizer.step()
    return pupil.eval()


def _behind(defense: Callable[[], Defense], draws: int = 4) -> Callable[[nn.Module], Victim]:
    return lambda network: Victim(standardized(network), defense=defense(), draws=draws)


def _wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], Victim]:
    return lambda network: Victim(standardized(wrap(network)))


def _bare_rounding(network: nn.Module) -> Victim:
    return Victim(standardized(network), defense=Rounding(blind=True))


def _hot(network: nn.Module) -> Victim:
    return Victim(standardized(ScaledLogits(network, 1000.0)))


TWINS = [
    Twin("rounding", _behind(Rounding), blind=_bare_rounding),
    Twin("temperature", _hot, blind=_hot, objectives=("margin", "dice")),
    Twin("jump activation", _wrapped(lambda n: Jump(n, honest=True)), blind=_wrapped(lambda n: Jump(n, honest=False))),
    Twin("random resize", _behind(RandomResize)),
    Twin("noise", _behind(RandomNoise)),
    Twin("median filter", _behind(Median)),
    Twin("JPEG", _behind(lambda: JPEG(quality=50))),
    Twin("FR", _behind(FrequencyRefinement)),
    Twin("detector", _wrapped(Detector)),
]
