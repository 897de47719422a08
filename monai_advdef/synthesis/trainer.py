"""Training of the generator against a frozen segmenter and a critic, as a MONAI trainer."""

from __future__ import annotations

import math
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.data.utils import set_rnd
from monai.engines import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_advdef.switches import as_written, truth
from monai_advdef.synthesis.fields import Fields, standardize
from monai_advdef.synthesis.generator import PerturbationGenerator
from monai_advdef.synthesis.losses import FieldPenalty, gradient_penalty, hinge, organ_cross_entropy
from monai_advdef.synthesis.measures import perceptibility
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim

CONSTRAINTS = ("gradient_penalty", "clipping")


class SynthesisTrainer(Trainer):
    """Every iteration moves the critic ``critic_steps`` times, the generator once, and the running average of the generator.

    The critic lowers E[C(x')] - E[C(x)]; the generator lowers ``-adversarial_weight E[C(x')]`` plus hinge, penalty and
    ``divergence_weight`` times the latents' divergence. ``engine.state.output`` holds the terms as numbers. All randomness of an
    epoch (order, random transforms, latents) comes from ``seed`` and the epoch's number, so a resumed training repeats it.

    Args:
        train_data_loader: batches with ``image`` in image units and ``label``.
        generator, critic: on ``device``.
        victim: the segmenter; its weights stay.
        threat: the range of valid intensities (and a region) that images are clamped to; its norm should be ``"unbounded"``.
        generator_optimizer, critic_optimizer: over the parameters of the two.
        xi: the cross-entropy in nats that is asked for, 0 asks for nothing.
        per_organ: hinge for each organ instead of over all of them.
        per_voxel: no voxel counts for more than xi in the cross-entropy, so that a whole organ must fail and not a part of it badly.
        penalty: of the fields.
        constraint: ``"gradient_penalty"`` with ``penalty_weight``, or ``"clipping"`` of the weights at ``clip``.
        decay: of the running average of the generator's weights.

    Raises:
        ValueError: xi below 0, an unknown constraint, a critic without steps, a decay outside [0, 1).

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019; Arjovsky et
    al., "Wasserstein GAN", 2017 (clip 0.01); Gulrajani et al. 2017 (penalty 10). One critic step and its weight of 0.1 are ours.
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
        xi: float = 2.0,
        per_organ: bool = True,
        per_voxel: bool = True,
        penalty: FieldPenalty | None = None,
        constraint: str = "gradient_penalty",
        penalty_weight: float = 10.0,
        clip: float = 0.01,
        critic_steps: int = 1,
        adversarial_weight: float = 0.1,
        divergence_weight: float = 1e-3,
        decay: float = 0.99,
        seed: int = 0,
        train_handlers: list[Any] | None = None,
    ) -> None:
        if constraint not in CONSTRAINTS:
            raise ValueError(f"constraint must be one of {', '.join(CONSTRAINTS)}, got {constraint!r}")
        if not xi >= 0:
            raise ValueError(f"xi must be ≥ 0 nats, got {xi}; the paper goes from 0.5 to 3")
        if critic_steps < 1:
            raise ValueError(f"critic_steps must be ≥ 1, got {critic_steps}; 1 is usual")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}; 0.99 averages over about 100 iterations")
        self.generator, self.critic, self.victim, self.threat = generator, critic, victim, threat
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer
        self.xi, self.per_organ, self.penalty = float(xi), truth("per_organ", per_organ), penalty or FieldPenalty()
        self.limit = self.xi if truth("per_voxel", per_voxel) else math.inf
        self.constraint, self.penalty_weight, self.clip, self.critic_steps = constraint, penalty_weight, clip, critic_steps
        self.adversarial_weight, self.divergence_weight, self.seed = adversarial_weight, divergence_weight, int(seed)
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(decay))
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
        critic_losses = [self._move_critic(image) for _ in range(self.critic_steps)]
        with self.victim.frozen():
            return {"critic": sum(critic_losses) / self.critic_steps, **self._move_generator(image, label)}

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
        if self.constraint == "gradient_penalty":
            loss = loss + self.penalty_weight * gradient_penalty(self.critic, real, fake, self.draws)
        loss.backward()
        self.critic_optimizer.step()
        if self.constraint == "clipping":
            with torch.no_grad():
                for weight in self.critic.parameters():
                    weight.clamp_(-self.clip, self.clip)
        return loss.item()

    def _move_generator(self, image: Tensor, label: Tensor) -> dict[str, float]:
        made, fields, divergence = self._make(image)
        logits = self.victim(made)
        aim = self.victim.encode(label, logits)
        head = self.victim.activation
        entropy, present = organ_cross_entropy(logits, aim, head=head, per_organ=self.per_organ, limit=self.limit)
        terms = {
            "adversarial": -self.adversarial_weight * self.critic(standardize(made, image)).mean(),
            "hinge": hinge(entropy, present, self.xi).mean(),
            "penalty": self.penalty(fields).mean(),
            "divergence": self.divergence_weight * divergence.mean(),
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
