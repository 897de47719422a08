"""Training images deformed and changed in intensity by a trained generator, their labels moved along."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from torch import Tensor

from monai_advdef.handlers.cell import Engine, case_names, case_seeds
from monai_advdef.synthesis import load_generator, warped_label
from monai_advdef.threat import ThreatModel, as_threat


class SynthesisAugmentation:
    """Replace some cases of every training batch by what a generator makes of them.

    The label is warped along with the image, so that the network learns to follow a motion and not to ignore it. Which cases, and
    the samples of the latents, depend on ``seed``, the epoch and the names of the cases alone. The generator's weights stay.

    Args:
        weights: the ``generator.pt`` that ``workflows/training/synthesis`` wrote.
        threat: the range of valid intensities that images are clamped to; its norm should be ``"unbounded"``.
        prob: with which probability each case is changed.
        seed: of the draws.
        image_key, label_key: keys of the batch.

    Raises:
        ValueError: ``prob`` outside 0..1; a file that is not a generator's.
        FileNotFoundError: no such ``weights``.

    Source: the future work named by Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial
    learning", 2019.
    """

    def __init__(
        self,
        weights: str,
        threat: ThreatModel,
        *,
        prob: float = 0.5,
        seed: int = 0,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in 0..1, got {prob}; 0.5 changes every other case")
        self.generator, _ = load_generator(weights)
        self.threat, self.prob, self.seed = as_threat(threat), float(prob), int(seed)
        self.image_key, self.label_key = image_key, label_key

    def attach(self, engine: Engine) -> None:
        """Change batches before an iteration."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        batch, device = engine.state.batch, engine.state.device
        image, label = (batch[k].to(device) for k in (self.image_key, self.label_key))
        seeds = case_seeds(self.seed, _apart(case_names(batch, self.image_key)), f"epoch {engine.state.epoch}")
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        chosen = [i for i, draw in enumerate(draws) if float(torch.rand(1, generator=draw)) < self.prob]
        if not chosen:
            return
        plain, classes = (_plain(x).clone() for x in (image, label))
        with torch.no_grad():
            fields, _ = self.generator.to(device)(plain[chosen].float(), [draws[i] for i in chosen])
            ball = self.threat.around(plain[chosen].float())
            made = fields.apply(plain[chosen].float()).clamp(ball.lower, ball.upper)
            plain[chosen] = made.to(plain)
            classes[chosen] = warped_label(classes[chosen], fields).to(classes)
        for key, old, new in ((self.image_key, image, plain), (self.label_key, label, classes)):
            batch[key] = MetaTensor(new).copy_meta_from(old) if isinstance(old, MetaTensor) else new


def _apart(names: list[str]) -> list[str]:
    """Names of the cases of a batch; several patches of one case are told apart by their number."""
    return [f"{name} {names[:i].count(name)}" for i, name in enumerate(names)]


def _plain(x: Any) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x
