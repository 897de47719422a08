"""Small suites, and the victims that the tests of suites share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef import Victim, run
from monai_advdef.attacks.named import named_attack
from monai_advdef.suite import Suite, digest_of, load_suite

MEMBERS = [
    {"attack": "PGD", "objective": "dice", "steps": 6, "step_size": None},
    {"attack": "PGD", "objective": "cross_entropy", "steps": 4, "step_size": None},
    {"attack": "TargetedIterativeFGSM", "target": "background", "steps": 3},
]
BEHIND = [{"begin": "own"}, {"begin": "oblivious"}]


def made(members: Sequence[Mapping[str, Any]] = MEMBERS, behind: Sequence[Mapping[str, Any]] = BEHIND, name: str = "mine") -> Suite:
    """A suite as a user writes it, with its digest."""
    return load_suite(mapping(members, behind, name))


def mapping(
    members: Sequence[Mapping[str, Any]] = MEMBERS, behind: Sequence[Mapping[str, Any]] = BEHIND, name: str = "mine"
) -> dict[str, Any]:
    listed = {"members": [dict(m) for m in members], "behind": [dict(b) for b in behind]}
    return {"name": name, "version": 1, "digest": digest_of(members, behind, 1, name), **listed}


class Counted(nn.Module):
    """A network that counts the images it is shown, and the gradients that come back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self._back)
        return self.network(x)

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def dice_of(victim: Victim, image: Tensor, label: Tensor) -> Tensor:
    """(B, K) Dice of each foreground class, written out with Python sets."""
    with torch.no_grad(), victim.frozen():
        logits = victim(image)
    k = logits.shape[1]
    found = [[logits[i].argmax(0) == c for c in range(1, k)] for i in range(len(image))]
    true = [[label[i, 0] == c for c in range(1, k)] for i in range(len(image))]
    if victim.activation == "sigmoid":
        found = [[logits[i, c] > 0 for c in range(k)] for i in range(len(image))]
        true = [[label[i, c] > 0.5 for c in range(k)] for i in range(len(image))]
    return torch.tensor([[_dice(p, t) for p, t in zip(*pair)] for pair in zip(found, true)])


def _dice(prediction: Tensor, truth: Tensor) -> float:
    p, t = ({tuple(v) for v in mask.nonzero().tolist()} for mask in (prediction, truth))
    return 2 * len(p & t) / (len(p) + len(t)) if p or t else 1.0


def alone(member: Mapping[str, Any], victim: Victim, threat: Any, image: Tensor, label: Tensor, **more: Any) -> Tensor:
    """The images of one member by itself."""
    options = {k: v for k, v in member.items() if k not in ("attack", "transfer")}
    return run(named_attack(member["attack"], options), victim, threat, image, label, **more).adversarial
