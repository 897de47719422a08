"""What a batch of images does to a victim, class by class: the one measure by which the attacks of a suite are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from monai_advdef.metrics import counts, dice, iou
from monai_advdef.types import Images, Logits, PerCase
from monai_advdef.victim import Victim, average


@dataclass
class Judged:
    """Overlap of the victim's predictions with the label (and with a target), of each case and each of K foreground classes.

    Behind a stochastic defence that of the mean logits over fresh draws; of a network that itself draws, means over fresh draws.

    Attributes:
        dice, iou: (B, K).
        counts: (B, K, 3), true positives, predicted and labelled voxels.
        target_dice, target_iou: (B, K), of prediction and target; NaN without a target.
        target_overlap: (B, K), the IoU of target and label, below which a targeted attack cannot push the IoU.
    """

    dice: Tensor
    iou: Tensor
    counts: Tensor
    target_dice: Tensor
    target_iou: Tensor
    target_overlap: Tensor

    @property
    def value(self) -> PerCase:
        """The reported metric: Dice, mean over the foreground classes."""
        return self.dice.mean(1)

    def parts(self) -> tuple[Tensor, ...]:
        """All tensors in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def spread(self, at: Sequence[int], cases: int) -> Judged:
        """The same for ``cases`` cases, of which these are those numbered ``at``; NaN for the others."""
        made = [part.new_full((cases, *part.shape[1:]), torch.nan) for part in self.parts()]
        for whole, part in zip(made, self.parts()):
            whole[list(at)] = part
        return Judged(*made)


class Judge:
    """Judges images on a victim as it is deployed, every time on draws that no attack has seen.

    Args:
        victim: with its defence.
        label: (B, 1, \\*S) or (B, K, \\*S), of all cases.
        seeds: one per case.
    """

    def __init__(self, victim: Victim, label: Tensor, seeds: Sequence[int]) -> None:
        self.victim, self.label, self.seeds = victim, label, seeds

    def __call__(
        self, image: Images, at: Sequence[int], number: int, *, target: Tensor | None = None, seen: Logits | None = None
    ) -> Judged:
        """The cases numbered ``at`` with these images, (len(at), C, \\*S), on draws of their own for every ``number``; ``target`` is
        encoded as the victim's labels are. Of a victim that draws nothing the logits may have been ``seen`` already."""
        victim, label = self.victim, self.label[list(at)]
        draws = [torch.Generator().manual_seed(fresh(self.seeds[i], number)) for i in at]
        with victim.frozen(), torch.no_grad():
            looks: Iterable[Tensor] = (victim(image, draws) for _ in range(victim.passes))
            looks = looks if seen is None or victim.stochastic else [seen]
            if not victim.random:
                looks = average((logits,) for logits in looks)
            return Judged(*average(self._overlaps(logits, label, target).parts() for logits in looks))

    def _overlaps(self, logits: Tensor, label: Tensor, target: Tensor | None) -> Judged:
        victim, classes = self.victim, self.victim.classes(logits)
        found, true = victim.predict(logits), victim.encode(label, logits)
        table = counts(found, true, classes)
        nothing = torch.full(table[0].shape, torch.nan, device=logits.device)
        told = [nothing] * 3
        if target is not None:
            aimed = counts(found, target, classes)
            told = [dice(*aimed), iou(*aimed), iou(*counts(target, true, classes))]
        return Judged(dice(*table), iou(*table), torch.stack(table, 2).double(), *told)


def fresh(seed: int, number: int) -> int:
    """A seed for the draws of a case's judgement, apart from those of its attacks."""
    return int.from_bytes(hashlib.sha256(f"judge {seed} {number}".encode()).digest()[:7], "big")
