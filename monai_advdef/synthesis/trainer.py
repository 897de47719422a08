"""Training of the generator against a frozen segmenter and a critic, as a MONAI trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.data.utils import set_rnd
from monai.engines import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_advdef.switches import as_written
from monai_advdef.synthesis.fields import Fields, standardize
from monai_advdef.synthesis.generator import PerturbationGenerator
from monai_advdef.synthesis.losses import gradient_penalty, hinge, organ_cross_entropy
from monai_advdef.synthesis.measures import perceptibility
from monai_advdef.synthesis.objective import SynthesisObjective
from monai_advdef.threat import ThreatModel, as_threat
from monai_advdef.victim import Victim


class SynthesisTrainer(Trainer):
    """Every iteration moves the critic ``critic_steps`` times, the generator once, and the running average of the generator.

    ``engine.state.output`` holds the terms of the objective as numbers. All randomness of an epoch (order, random transforms,
    latents) comes from ``seed`` and the epoch's number, so a resumed training repeats it.

    Args:
        train_data_loader: batches with ``image`` in image units and ``label``.
        generator, critic: on ``device``.
        victim: the segmenter; its weights stay.
        threat: the range of valid intensities (and a region) that images are clamped to; its norm should be ``"unbounded"``.
        generator_optimizer, critic_optimizer: over the parameters of the two.
        objective: a :class:`SynthesisObjective`, or a mapping with its arguments.
        options: single arguments of the objective, such as ``xi=1.0``; they go before what ``objective`` says.

    Raises:
        ValueError: as :class:`SynthesisObjective`.
        TypeError: an option that the objective lacks.

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019.
    """

    @as_written
    def __init__(
        self,
        *,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        generator: PerturbationGenerator,
        critic: nn.Module,
        victim: Victim,
        threat: ThreatModel,
        generator_optimizer: Optimizer,
        critic_optimizer: Optimizer,
        objective: SynthesisObjective | Mapping[str, Any] | None = None,
        seed: int = 0,
        train_handlers: list[Any] | None = None,
        **options: Any,
    ) -> None:
        told = vars(objective) if isinstance(objective, SynthesisObjective) else objective or {}
        self.objective = SynthesisObjective(**{**told, **options})
        self.generator, self.critic, self.victim, self.threat = generator, critic, victim, as_threat(threat)
        self.generator_optimizer, self.critic_optimizer, self.seed = generator_optimizer, critic_optimizer, int(seed)
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(self.objective.decay))
        self.draws = torch.Generator()
        victim.network.to(device)
        super().__init__(device=device, max_epochs=max_epochs, data_loader=train_data_loader, decollate=False)
        self.add_event_handler(Events.EPOCH_STARTED, SynthesisTrainer._seed_epoch)
        self._register_handlers(train_handlers or [])

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that training changes, by name."""
        return {
            "generator": self.generator,
            "critic": self.critic,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }

    def _seed_epoch(self) -> None:
        """Order, random transforms and latents of the coming epoch as they are in every run with this seed."""
        seed = self.seed + 10_007 * self.state.epoch
        torch.manual_seed(seed)
        set_rnd(getattr(self.data_loader, "dataset", None), seed=seed)
        self.draws.manual_seed(seed)
        self.set_data(self.data_loader)  # an iterator that began before would keep its own order

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, float]:
        image, label = (_plain(x) for x in self.prepare_batch(batchdata, self.state.device, self.non_blocking))
        critic_losses = [self._move_critic(image) for _ in range(self.objective.critic_steps)]
        with self.victim.frozen():
            return {"critic": sum(critic_losses) / len(critic_losses), **self._move_generator(image, label)}

    def _make(self, image: Tensor) -> tuple[Tensor, Fields, Tensor]:
        """Changed images, their fields, and the divergence of the latents."""
        fields, divergence = self.generator(image, [self.draws] * len(image))
        ball = self.threat.around(image)
        return fields.apply(image).clamp(ball.lower, ball.upper), fields, divergence

    def _move_critic(self, image: Tensor) -> float:
        with torch.no_grad():
            fake = standardize(self._make(image)[0], image)
        real = standardize(image, image)
        self.critic_optimizer.zero_grad()
        loss = self.critic(fake).mean() - self.critic(real).mean()
        if self.objective.constraint == "gradient_penalty":
            loss = loss + self.objective.penalty_weight * gradient_penalty(self.critic, real, fake, self.draws)
        loss.backward()
        self.critic_optimizer.step()
        if self.objective.constraint == "clipping":
            with torch.no_grad():
                for weight in self.critic.parameters():
                    weight.clamp_(-self.objective.clip, self.objective.clip)
        return loss.item()

    def _move_generator(self, image: Tensor, label: Tensor) -> dict[str, float]:
        asked = self.objective
        made, fields, divergence = self._make(image)
        logits = self.victim(made)
        aim = self.victim.encode(label, logits)
        head = self.victim.activation
        entropy, present = organ_cross_entropy(logits, aim, head=head, per_organ=asked.per_organ, limit=asked.limit)
        terms = {
            "adversarial": -asked.adversarial_weight * self.critic(standardize(made, image)).mean(),
            "hinge": hinge(entropy, present, float(asked.xi)).mean(),
            "penalty": asked.penalty(fields).mean(),
            "divergence": asked.divergence_weight * divergence.mean(),
        }
        loss = torch.stack(list(terms.values())).sum()
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.average.update_parameters(self.generator)
        return {
            "loss": loss.item(),
            **{name: term.item() for name, term in terms.items()},
            "cross_entropy": (entropy.detach() * present).sum().item() / max(int(present.sum()), 1),
            "perceptibility": perceptibility(made.detach(), image).mean().item(),
            "displacement": torch.linalg.vector_norm(fields.displacement.detach(), dim=1).mean().item(),
        }


def _plain(x: Tensor) -> Tensor:
    return (x.as_tensor() if hasattr(x, "as_tensor") else x).float()
