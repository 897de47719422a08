"""The attacker who knows the detector: the segmentation is to fail, and the second look is to agree with the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_advdef.attacks import PGD, Outcome
from monai_advdef.attacks.core import Iterate
from monai_advdef.defenses import Defense
from monai_advdef.detection.disagreements import DisagreementHandler, agreement, disagreement
from monai_advdef.handlers import AttackHandler
from monai_advdef.handlers.cell import Engine, defense_identity
from monai_advdef.handlers.identity import digest
from monai_advdef.handlers.options import take
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, as_threat
from monai_advdef.types import Images, Logits, PerCase
from monai_advdef.victim import Generators, Victim

MARGIN = 0.8  # of the threshold: where agreement begins to count, a little before the alarm


class _Twice(nn.Module):
    """A network that looks at two images side by side in the channels, (B, 2C, \\*S) -> (B, 2K, \\*S)."""

    def __init__(self, network: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        found = [self.network(half.contiguous()) for half in x.chunk(2, 1)]
        found = [out[0] if isinstance(out, (tuple, list)) and out else out for out in found]
        return torch.cat(found, 1) if all(isinstance(out, Tensor) for out in found) else found[0]


class _Beside(nn.Module):
    """An image and, beside it in the channels, what the detector makes of it; each behind the deployed defence, if any."""

    def __init__(self, deployed: Callable[..., Tensor] | None, detector: Callable[..., Tensor]) -> None:
        super().__init__()
        self.deployed, self.detector = deployed, detector
        self.stochastic = any(getattr(d, "stochastic", False) for d in (deployed, detector))

    def forward(self, image: Images, generators: Generators = None) -> Images:
        looks = [image, _through(self.detector, image, generators)]
        if image.requires_grad and not looks[1].requires_grad:
            raise ValueError(
                f"{type(self.detector).__name__} passes no gradient, so an attacker who evades the detector cannot see through it; "
                "give it a surrogate"
            )
        return torch.cat([look if self.deployed is None else _through(self.deployed, look, generators) for look in looks], 1)


def _through(defense: Callable[..., Tensor], image: Tensor, generators: Generators) -> Tensor:
    return defense(image, generators) if getattr(defense, "stochastic", False) else defense(image)


class WatchedVictim(Victim):
    """A victim together with its detector: logits (B, 2K, \\*S), those of the image and those of its second look.

    Prediction, classes and labels are those of the first half, so that an attack is judged by the segmentation alone.

    Args:
        victim: what is deployed.
        detector: the defence of the second look; its surrogate supplies the gradient.
    """

    def __init__(self, victim: Victim, detector: Callable[..., Tensor]) -> None:
        vars(self).update(vars(victim))
        self.watched, self.detector = victim, detector
        self.network, self._stepper = _Twice(victim.network), _Twice(victim._stepper)
        self.defense = _Beside(victim.defense, detector)
        if victim.normalize is not None:
            self.normalize = lambda x: torch.cat([victim.normalize(half) for half in x.chunk(2, 1)], 1)  # type: ignore[misc]

    def without_defense(self) -> WatchedVictim:
        """Without the deployed defence, the detector still there."""
        return WatchedVictim(self.watched.without_defense(), self.detector)

    def defended(self, image: Images, generators: Generators = None) -> Tensor:
        """Both looks, (B, 2C, \\*S)."""
        return _through(self.defense, image, generators)  # type: ignore[arg-type]

    def require_range(self, image: Images) -> None:
        """Of the deployed defence, and of the detector's."""
        self.watched.require_range(image)
        if isinstance(self.detector, Defense):
            self.detector.require_range(image)

    def predict(self, logits: Logits) -> Tensor:
        """Of the first look."""
        return super().predict(_halves(logits)[0])

    def classes(self, logits: Logits) -> int | None:
        """Of the first look."""
        return super().classes(_halves(logits)[0])

    def encode(self, label: Tensor, logits: Logits, name: str = "label") -> Tensor:
        """For the first look."""
        return super().encode(label, _halves(logits)[0], name)


def _halves(logits: Logits) -> tuple[Tensor, ...]:
    return logits.chunk(2, 1)


@dataclass(frozen=True, kw_only=True)
class EvadingPGD(PGD):
    """PGD on a :class:`WatchedVictim`: raises its objective on both looks and, while a case raises an alarm, their agreement.

    A case whose looks agree already is not held back by an agreement that it does not need: with it always in the loss most cases
    stay where they began. The best iterate of a case is the one that fails most among those that raise no alarm; where all do, the
    one that fails most. Without a threshold agreement always counts, and the disagreement, times ``weight``, is taken off the score.

    Args:
        weight: λ of the agreement; 0 is the attacker who does not know the detector.
        threshold: the disagreement above which the detector raises an alarm.

    Raises:
        ValueError: a weight below 0.

    Source: Bryniarski et al., "Evading Adversarial Example Detection Defenses with Orthogonal Projected Gradient Descent", ICLR
    2022, for the joint objective, and for turning to the detector only where it detects.
    """

    weight: float = 3.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight >= 0:
            raise ValueError(f"weight must be ≥ 0, got {self.weight}; 3 weighs agreement as three times soft Dice")

    @property
    def label(self) -> str:
        """That of PGD, and how much it evades."""
        return f"{self._named('PGD')} evading {self.weight:g}"

    def to_config(self) -> dict[str, Any]:
        """The attack as a plain ``_target_`` configuration."""
        return {**super().to_config(), "_target_": "monai_advdef.detection.EvadingPGD"}

    def loss(self, logits: Tensor, aim: Tensor, targeted: bool, head: str, done: float = 0.0) -> PerCase:
        """The objective on both looks; of the attacker who does not know the detector on the first."""
        first, second = (super(EvadingPGD, self).loss(half, aim, targeted, head, done) for half in _halves(logits))
        return first + second if self.weight else first

    def gradient(
        self, victim: Victim, x: Images, loss: Callable[[Tensor], Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """That of a victim with a detector.

        Raises:
            ValueError: it has none.
        """
        if not isinstance(victim, WatchedVictim):
            raise ValueError("EvadingPGD evades a detector, and this victim has none; give it a WatchedVictim, or take PGD")

        def joint(logits: Tensor) -> Tensor:
            first, second = _halves(logits)
            apart = disagreement(victim.watched, first.detach(), second.detach())
            counts = torch.ones_like(apart) if self.threshold is None else (apart > MARGIN * self.threshold).to(apart.dtype)
            return loss(logits) + self.weight * counts * agreement(first, second, victim.activation)

        return super().gradient(victim, x, joint, generators)

    def rank(self, at: Iterate, score: PerCase) -> PerCase:
        """Success, less what an alarm costs."""
        apart = disagreement(at.victim.watched, *_halves(at.logits))  # type: ignore[attr-defined]
        return score - (self.weight * apart if self.threshold is None else (apart > self.threshold).float())


class EvasionHandler(AttackHandler):
    """An :class:`monai_advdef.handlers.AttackHandler` whose attacker knows the detector, its threshold included.

    Args:
        detector: the detector of this evaluation; list it among the handlers, too.
        threat: see :class:`monai_advdef.handlers.AttackHandler`; its fields may stand flat, too, and then go before it.
        options: of :class:`EvadingPGD` (``steps``, ``weight`` ...) and of :class:`monai_advdef.handlers.AttackHandler`.

    Raises:
        ValueError: see :class:`EvadingPGD` and :class:`monai_advdef.handlers.AttackHandler`.
    """

    @as_written
    def __init__(self, detector: DisagreementHandler, threat: ThreatModel | Mapping[str, Any] | None = None, **options: Any) -> None:
        attack, bounds = EvadingPGD(**take(options, EvadingPGD)), take(options, ThreatModel)
        super().__init__(attack, ThreatModel(**bounds) if threat is None else as_threat(threat, **bounds), **options)
        self.detector = detector

    def attach(self, engine: Engine) -> None:
        """As any attack; the threshold is learnt when the run starts."""
        engine.add_event_handler(Events.STARTED, self.started)
        super().attach(engine)

    def started(self, engine: Engine) -> None:
        """Learn the threshold."""
        if self.detector.threshold is None:
            self.detector.started(engine)
        self.attack = replace(self.attack, threshold=self.detector.threshold)  # type: ignore[call-arg]

    def is_adaptive(self, engine: Engine) -> bool:
        """Whether the attacker knows what stands in front, and the detector, which it does."""
        return self.adaptive

    def identity(self, threat: ThreatModel | None = None, *, through: bool = True) -> str:
        """With the detector, through whose defence the images are always crafted."""
        return digest(super().identity(threat, through=True), defense_identity(self.detector.defense))

    def _make_victim(self, engine: Engine) -> Victim:
        return WatchedVictim(super()._make_victim(engine), self.detector.defense)

    def _entries(self, image: Tensor, outcome: Outcome, seconds: float) -> list[dict[str, Any]]:
        twice = {name: 2 * getattr(outcome, name) for name in ("forwards", "backwards", "passes")}  # each look is two passes
        looked = replace(outcome, **twice)
        return super()._entries(image, looked, seconds)
