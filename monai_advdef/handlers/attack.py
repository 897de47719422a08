"""Attack every batch of a MONAI evaluator or trainer before its own forward pass."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import Trainer
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor, nn

from monai_advdef.attacks import Attack, Outcome, run_sweep
from monai_advdef.defenses import DefendedInferer
from monai_advdef.handlers.batches import batch_images, network_of, put_image
from monai_advdef.handlers.cache import AdversarialCache
from monai_advdef.handlers.cases import Cases, in_order
from monai_advdef.handlers.cell import (
    Engine,
    case_seeds,
    defense_identity,
    defense_of,
    described,
    inferer_identity,
    network_identity,
    networks_of,
    plain,
    weights_of,
)
from monai_advdef.handlers.identity import Unidentified, digest, identity, tensor_bytes
from monai_advdef.handlers.options import VictimSettings, gather, names_of, resolve, rights
from monai_advdef.handlers.stored import STORED, check_size, store
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, measure
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)
OWN = ("adaptive", "seed", "image_key", "label_key", "cache_dir", "stored", "sweep")  # what the handler itself is told
MEASURES = ("score", "linf", "l2", "forwards", "backwards", "seconds", "zero_gradient")


class AttackNotApplied(RuntimeError):
    """An attack was configured, yet batches went through without it: the numbers would have looked robust."""


@dataclass
class Attacked:
    """What happened to the current batch, for the handlers that come later: one entry per case.

    ``target`` is what a targeted attack aimed at, a class map (B, 1, \\*S) or a mask per class (B, K, \\*S), else ``None``.
    """

    iteration: int
    clean: Tensor
    target: Tensor | None
    score: list[float]
    linf: list[float]
    l2: list[float]
    forwards: list[int]
    backwards: list[int]
    seconds: list[float]
    zero_gradient: list[float]


class AttackHandler:
    """Replace the image of every batch by its adversarial version, at the start of the iteration.

    Works on evaluators and trainers alike. The network's modes and gradients are as before afterwards, the image keeps its metadata,
    wrappers for parallel training are taken off, and the defence of a ``DefendedInferer`` is attacked through (adaptive) or not
    (oblivious).

    Args:
        attack: name of an attack, with its options beside it (``steps=10``), or an ``Attack``.
        threat: the threat model, a ready-made one or a mapping of its fields (a bundle's ``threat_def``); its fields may also stand
            flat beside the attack's name (``eps=8``), and then go before those of ``threat``.
        victim: how the network is looked at while images are crafted: :class:`VictimSettings`, or flat options (``activation``,
            ``normalize``, ``draws``, ``step_precision``, ``compiled``, ``heads``, ``kept_windows``, ``logit_scale``, ``source``,
            ``source_name``), which go before it.
        adaptive: whether the attacker knows the defence.
        seed: every case draws from a stream of its own made from this number and its name.
        image_key, label_key: keys of the batch.
        cache_dir: where adversarial images are kept, so that each is crafted once and a killed run resumes; ``None`` keeps none.
        stored: ``"float32"``, or ``"uint8"``: adversarial images are rounded to 256 levels of the value range, as a file would
            hold them, before anything sees them.
        sweep: budgets whose images are crafted along with those of ``eps``, sharing gradients where their descents agree (see
            :func:`monai_advdef.attacks.run_sweep`), and kept in the cache for the evaluations that come.

    Raises:
        ValueError: unknown attack, option or ``stored``; a ``sweep`` without ``cache_dir``; a threat that does not say what the
            images are; see also :class:`VictimSettings` and :func:`monai_advdef.run`.
    """

    @as_written
    def __init__(
        self,
        attack: str | Attack = "PGD",
        threat: ThreatModel | Mapping[str, Any] | None = None,
        *,
        victim: VictimSettings | Mapping[str, Any] | None = None,
        adaptive: bool = True,
        seed: int = 0,
        image_key: str = "image",
        label_key: str = "label",
        cache_dir: str | os.PathLike[str] | None = None,
        stored: str = "float32",
        sweep: Sequence[float] | float = (),
        **options: Any,
    ) -> None:
        if stored not in STORED:
            raise ValueError(f"stored must be one of {', '.join(STORED)}, got {stored!r}")
        self.view = gather(VictimSettings, victim, options)
        self.attack, self.threat = resolve(attack, threat, options, [*names_of(VictimSettings), *OWN])
        self.adaptive, self.seed = adaptive, int(seed)
        self.image_key, self.label_key, self.stored = image_key, label_key, stored
        self.cache = AdversarialCache(cache_dir) if cache_dir else None
        sweep = [sweep] if isinstance(sweep, (int, float)) else sweep
        if sweep and self.cache is None:
            raise ValueError(f"sweep {list(sweep)} needs cache_dir, a folder for the images of the other budgets")
        self.threats = [self.threat, *(replace(self.threat, eps=float(eps)) for eps in sweep if eps != self.threat.eps)]
        self.touched = self.seen = 0
        self._victim: Victim | None = None
        self._bases: list[str] = []
        self.cases = Cases(None, image_key)

    def attach(self, engine: Engine) -> None:
        """Attack every batch before the engine sees it, and count them."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def is_adaptive(self, engine: Engine) -> bool:
        """Whether a defence stands in front and is attacked through (noise, which takes no step, never is adaptive)."""
        return self.adaptive and defense_of(engine) is not None and self.attack.count(self.threat) > 0

    @property
    def label(self) -> str:
        """The attack's short name, and what tells it apart: all heads, images stored with 8 bits, another network's."""
        view = self.view
        told = [self.attack.label, "on all heads" if view.heads else "", "(8-bit)" if self.stored == "uint8" else ""]
        told.append(f"on logits x {view.logit_scale:g}" if view.logit_scale != 1 else "")
        told.append(f"from {view.source_name}" if view.source is not None else "")
        return " ".join(filter(None, told))

    @property
    def settings(self) -> dict[str, Any]:
        """How the network is looked at while images are crafted, as :class:`monai_advdef.Victim` is told."""
        return {**self.view.plain(), "normalize": self.view.normalize}

    def to_config(self) -> dict[str, Any]:
        """Attack, threat model and settings as plain values."""
        source, region = self.view.source, self.threat.region
        region = region if region is None or isinstance(region, str) else identity(region)
        threat = {**asdict(replace(self.threat, region=None)), "region": region}
        told: dict[str, Any] = {"attack": described(self.attack), "threat": threat}
        told |= {"seed": self.seed, "stored": self.stored, **self.view.plain()}
        return plain({**told, **({} if source is None else {"source": weights_of(source)})})

    def identity(self, threat: ThreatModel | None = None) -> str:
        """One digest of what the images depend on besides the network they are crafted on, its inferer, the defence and the case.

        Raises:
            Unidentified: the attack or the normaliser cannot be told from another of its kind.
        """
        view = self.view
        settings = [self.seed, self.stored, view.plain()]
        modes = [m.training for m in view.normalize.modules()] if isinstance(view.normalize, nn.Module) else []
        return identity(self.attack, rights(threat or self.threat), settings, view.normalize, modes, without=("fields_dir",))

    def epoch_started(self, engine: Engine) -> None:
        """Nothing is attacked yet."""
        self.touched = self.seen = 0
        self._victim = None
        self.cases = Cases(getattr(engine.state.dataloader, "dataset", None), self.image_key)

    def epoch_completed(self, engine: Engine) -> None:
        """Check that every batch was attacked.

        Raises:
            AttackNotApplied: some were not, so that the scores are not those of an attack.
        """
        self._victim = None
        length = engine.state.epoch_length
        if length is not None and self.touched < length:
            raise AttackNotApplied(
                f"{self.label} touched {self.touched} of {length} batches; the scores of this run are not those of an attack"
            )

    def __call__(self, engine: Engine) -> None:
        batch, device = engine.state.batch, engine.state.device
        image, label = (x.to(device) for x in batch_images(batch, self.image_key, self.label_key))
        names = self.cases.names(batch)
        trainer = isinstance(engine, Trainer)
        if self._victim is None or trainer:
            self._victim = self._make_victim(engine).knowing(self._victim)
            self._bases = self._fingerprints(engine) if self.cache else []
        seeds = case_seeds(self.seed, names, f"epoch {engine.state.epoch}" if trainer else "")
        target = self._other_case(engine, label) if self.attack.target == "other_case" else None
        adversarial, aim, columns = self._craft(image, label, target, seeds)
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        if not trainer:
            check_size(self.threat, clean, adversarial, names, levels=self.stored == "uint8")
        engine.state.attack = Attacked(engine.state.iteration, clean, aim, **columns)  # type: ignore[attr-defined]
        put_image(batch, self.image_key, adversarial)
        self.touched, self.seen = self.touched + 1, self.seen + len(names)
        if not trainer:
            words = "%s: batch %d of %s, %.2f s a case"
            logger.info(words, self.attack.label, self.touched, engine.state.epoch_length, columns["seconds"][-1])

    def _make_victim(self, engine: Engine) -> Victim:
        inferer = getattr(engine, "inferer", None)
        if isinstance(inferer, DefendedInferer) and not self.adaptive:
            inferer = inferer.inferer
        return self.view.victim(network_of(engine), inferer, engine.state.device)

    def _fingerprints(self, engine: Engine) -> list[str]:
        """What the images of each budget depend on, besides the case; nothing where that cannot be told, and then none is kept."""
        try:
            defense = defense_identity(defense_of(engine) if self.adaptive else None)
            network = network_identity(networks_of(engine) if self.view.source is None else self.view.source)
            of = [defense, network, inferer_identity(engine.inferer)]
            return [digest(self.identity(threat), *of) for threat in self.threats]
        except Unidentified as error:
            logger.warning("adversarial images are neither kept in nor taken from %s: %s", self.cache.folder, error)  # type: ignore[union-attr]
            return []

    def _craft(
        self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """Adversarial images (from the cache where they are), their targets, and what they measure and cost, an entry per case."""
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        keys = [[self._key(base, i, clean, label, target, s) for base in self._bases] for i, s in enumerate(seeds)]
        stored = [self.cache.load(k[0]) if self.cache and k else None for k in keys]
        todo = [i for i, s in enumerate(stored) if s is None]
        if todo:
            made = self._attack(clean[todo], label[todo], None if target is None else target[todo], [seeds[i] for i in todo])
            for i, entries in zip(todo, zip(*made)):
                stored[i] = entries[0]
                for key, entry in zip(keys[i], entries):
                    self.cache.store(key, **entry)  # type: ignore[union-attr]
        found: list[dict[str, Any]] = stored  # type: ignore[assignment]
        adversarial, aim = (
            torch.stack([torch.as_tensor(e[name]) for e in found]).to(clean.device) if name in found[0] else None
            for name in ("adversarial", "target")
        )
        assert adversarial is not None
        return adversarial, aim, {n: [e[n].item() for e in found] for n in MEASURES}

    def _attack(self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]) -> list[list[dict[str, Any]]]:
        """What is kept of every case, for each budget in turn."""
        assert self._victim is not None
        start = time.perf_counter()
        threats = self.threats if self._bases or self.cache is None else self.threats[:1]
        outcomes = run_sweep(self.attack, self._victim, threats, image, label, target=target, seed=seeds)
        seconds = (time.perf_counter() - start) / len(image) / len(outcomes)
        return [self._entries(image, outcome, seconds) for outcome in outcomes]

    def _entries(self, image: Tensor, outcome: Outcome, seconds: float) -> list[dict[str, Any]]:
        adversarial = outcome.adversarial
        if self.stored == "uint8":
            adversarial = store(adversarial, self.threat.around(image.float()))
        size = measure(adversarial, image.float())
        per_case = {"score": outcome.score, "linf": size["linf"], "l2": size["l2"], "zero_gradient": outcome.zero_gradient}
        per_case["forwards"], per_case["backwards"] = outcome.passes.unbind(1)
        return [
            {
                "adversarial": adversarial[i].cpu().numpy(),
                **({} if outcome.target is None else {"target": outcome.target[i].cpu().numpy().astype(np.int16)}),
                **{name: values[i].cpu().numpy() for name, values in per_case.items()},
                "seconds": np.array(seconds),
            }
            for i in range(len(image))
        ]

    def _key(self, base: str, i: int, image: Tensor, label: Tensor, target: Tensor | None, seed: int) -> str:
        aim = label[i] if target is None else target[i]
        return digest(base, str(seed), tensor_bytes(image[i]), tensor_bytes(label[i]), tensor_bytes(aim))

    def _other_case(self, engine: Engine, label: Tensor) -> Tensor:
        """For each case the label of the next case of the data set (the first one's for the last), centred on its own grid."""
        dataset = engine.state.dataloader.dataset
        if len(dataset) < 2:
            raise ValueError("target 'other_case' needs a second case; the data set has one. Choose another target, or add a case")
        if not isinstance(engine, Trainer) and not in_order(engine.state.dataloader):
            raise ValueError(
                "target 'other_case' needs the cases in the order of the data set; set the DataLoader's shuffle to false"
            )
        following = dataset[(self.seen + len(label)) % len(dataset)]
        donor = (following[0] if isinstance(following, list) else following)[self.label_key].to(label.device)
        if donor.shape[1:] != label.shape[2:]:
            donor = ResizeWithPadOrCrop(label.shape[2:], lazy=False)(donor)
        return torch.cat([label[1:], donor[None]])
