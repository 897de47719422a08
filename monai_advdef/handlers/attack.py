"""Attack every batch of a MONAI evaluator or trainer before its own forward pass."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
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
from monai_advdef.handlers.cell import (
    Engine,
    case_names,
    case_seeds,
    defense_config,
    defense_of,
    digest,
    inferer_config,
    tensor_bytes,
    weights_hash,
)
from monai_advdef.handlers.options import resolve
from monai_advdef.handlers.stored import STORED, store
from monai_advdef.networks.scaled import ScaledLogits
from monai_advdef.switches import as_written, truth
from monai_advdef.threat import ThreatModel, measure
from monai_advdef.victim import Victim, unwrap

logger = logging.getLogger(__name__)
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
        attack: name of an attack, with its options and those of the threat model beside it (``eps=8, steps=10``), or an ``Attack``.
        threat: a ready-made threat model instead of the options.
        adaptive: whether the attacker knows the defence.
        activation: ``"softmax"`` or ``"sigmoid"``.
        normalize: what stands between image units and the network (see :class:`monai_advdef.Victim`); ``None`` if the network
            does it.
        seed: every case draws from a stream of its own made from this number and its name.
        image_key, label_key: keys of the batch.
        cache_dir: where adversarial images are kept, so that each is crafted once and a killed run resumes; ``None`` keeps none.
        stored: ``"float32"``, or ``"uint8"``: adversarial images are rounded to 256 levels of the value range, as a file would
            hold them, before anything sees them.
        source: a network on which the images are crafted instead of the deployed one (a transfer attack), and ``source_name`` for
            tables.
        sweep: budgets whose images are crafted along with those of ``eps``, sharing gradients where their descents agree (see
            :func:`monai_advdef.attacks.run_sweep`), and kept in the cache for the evaluations that come.
        logit_scale: craft the images on that many times the logits, 1/T for a network distilled at temperature T; predictions are
            the same, saturated losses are not.
        step_precision, compiled, heads, draws, kept_windows: see :class:`monai_advdef.Victim`.

    Raises:
        ValueError: unknown attack, option or ``stored``; ``logit_scale`` not above 0; a ``sweep`` without ``cache_dir``; see also
            :func:`monai_advdef.run`.
    """

    @as_written
    def __init__(
        self,
        attack: str | Attack = "PGD",
        threat: ThreatModel | None = None,
        *,
        adaptive: bool | str = True,
        activation: str = "softmax",
        normalize: Any = None,
        seed: int = 0,
        image_key: str = "image",
        label_key: str = "label",
        cache_dir: str | os.PathLike[str] | None = None,
        stored: str = "float32",
        source: nn.Module | None = None,
        source_name: str = "another network",
        logit_scale: float = 1.0,
        sweep: Sequence[float] = (),
        step_precision: str = "float32",
        compiled: bool = False,
        heads: bool | str = False,
        draws: int = 8,
        kept_windows: int = 0,
        **options: Any,
    ) -> None:
        if stored not in STORED:
            raise ValueError(f"stored must be one of {', '.join(STORED)}, got {stored!r}")
        if not logit_scale > 0:
            raise ValueError(f"logit_scale must be > 0, got {logit_scale}; 1/T undoes a temperature T, 1 does nothing")
        self.attack, self.threat = resolve(attack, threat, options)
        self.adaptive, self.seed = truth("adaptive", adaptive), int(seed)
        self.image_key, self.label_key = image_key, label_key
        self.cache = AdversarialCache(cache_dir) if cache_dir else None
        if sweep and self.cache is None:
            raise ValueError(f"sweep {list(sweep)} needs cache_dir, a folder for the images of the other budgets")
        self.threats = [self.threat, *(replace(self.threat, eps=float(eps)) for eps in sweep if eps != self.threat.eps)]
        self.stored, self.source, self.source_name = stored, source, source_name
        self.logit_scale = float(logit_scale)
        self.settings: dict[str, Any] = {"activation": activation, "normalize": normalize, "draws": int(draws)}
        self.settings |= {"step_precision": step_precision, "compiled": compiled, "heads": truth("heads", heads)}
        self.kept_windows = kept_windows  # no part of what an image is known by: it changes the time, not the gradient
        self.touched = self.seen = 0
        self._victim: Victim | None = None
        self._bases: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def is_adaptive(self, engine: Engine) -> bool:
        """Whether a defence stands in front and is attacked through (noise, which takes no step, never is adaptive)."""
        return self.adaptive and defense_of(engine) is not None and self.attack.count(self.threat) > 0

    @property
    def label(self) -> str:
        """The attack's short name, and what tells it apart: all heads, images stored with 8 bits, another network's."""
        told = [self.attack.label, "on all heads" if self.settings["heads"] else "", "(8-bit)" if self.stored == "uint8" else ""]
        told.append(f"on logits x {self.logit_scale:g}" if self.logit_scale != 1 else "")
        told.append(f"from {self.source_name}" if self.source is not None else "")
        return " ".join(filter(None, told))

    def to_config(self) -> dict[str, Any]:
        """Attack, threat model and settings as plain values."""
        return {**self._config(self.threat), **({} if self.source is None else {"source": weights_hash(self.source)})}

    def _config(self, threat: ThreatModel) -> dict[str, Any]:
        """What the images depend on besides network, defence and inferer."""
        region = threat.region
        plain = {**asdict(threat), "region": region if region is None or isinstance(region, str) else digest(tensor_bytes(region))}
        settings = {k: str(v) for k, v in self.settings.items()}
        settings |= {"logit_scale": str(self.logit_scale)} if self.logit_scale != 1 else {}
        return {"attack": self.attack.to_config(), "threat": plain, "seed": self.seed, "stored": self.stored, **settings}

    def epoch_started(self, engine: Engine) -> None:
        self.touched = self.seen = 0
        self._victim = None

    def epoch_completed(self, engine: Engine) -> None:
        self._victim = None
        length = engine.state.epoch_length
        if length is not None and self.touched < length:
            raise AttackNotApplied(
                f"{self.label} touched {self.touched} of {length} batches; the scores of this run are not those of an attack"
            )

    def __call__(self, engine: Engine) -> None:
        batch, device = engine.state.batch, engine.state.device
        image, label = (x.to(device) for x in batch_images(batch, self.image_key, self.label_key))
        names = case_names(batch, self.image_key)
        trainer = isinstance(engine, Trainer)
        if self._victim is None or trainer:
            self._victim = self._make_victim(engine).knowing(self._victim)
            self._bases = self._fingerprints(engine) if self.cache else []
        seeds = case_seeds(self.seed, names, f"epoch {engine.state.epoch}" if trainer else "")
        target = self._other_case(engine, label) if self.attack.target == "other_case" else None
        adversarial, aim, columns = self._craft(image, label, target, seeds)
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        engine.state.attack = Attacked(engine.state.iteration, clean, aim, **columns)  # type: ignore[attr-defined]
        put_image(batch, self.image_key, adversarial)
        self.touched, self.seen = self.touched + 1, self.seen + len(names)
        if not trainer:
            logger.info(
                "%s: batch %d of %s, %.2f s a case",
                self.attack.label,
                self.touched,
                engine.state.epoch_length,
                columns["seconds"][-1],
            )

    def _make_victim(self, engine: Engine) -> Victim:
        inferer = getattr(engine, "inferer", None)
        if isinstance(inferer, DefendedInferer) and not self.adaptive:
            inferer = inferer.inferer
        network = network_of(engine) if self.source is None else self.source.to(engine.state.device)
        if self.logit_scale != 1:
            network = ScaledLogits(unwrap(network), factor=self.logit_scale).to(engine.state.device)
        return Victim(network, inferer=inferer, kept_windows=self.kept_windows, **self.settings)

    def _fingerprints(self, engine: Engine) -> list[str]:
        """What the images of each budget depend on, besides the case."""
        defense = defense_config(defense_of(engine) if self.adaptive else None)
        weights = weights_hash(engine.network if self.source is None else self.source)
        settings = [json.dumps([self._config(threat), defense], sort_keys=True) for threat in self.threats]
        return [digest(text, weights, inferer_config(engine.inferer)) for text in settings]

    def _craft(
        self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """Adversarial images (from the cache where they are), their targets, and what they measure and cost, an entry per case."""
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        keys = [[self._key(base, i, clean, label, target, s) for base in self._bases] for i, s in enumerate(seeds)]
        stored = [self.cache.load(k[0]) if self.cache else None for k in keys]
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
        outcomes = run_sweep(self.attack, self._victim, self.threats, image, label, target=target, seed=seeds)
        seconds = (time.perf_counter() - start) / len(image) / len(outcomes)
        return [self._entries(image, outcome, seconds) for outcome in outcomes]

    def _entries(self, image: Tensor, outcome: Outcome, seconds: float) -> list[dict[str, Any]]:
        adversarial = outcome.adversarial
        if self.stored == "uint8":
            adversarial = store(adversarial, self.threat.around(image.float()))
        size = measure(adversarial, image.float())
        per_case = {"score": outcome.score, "linf": size["linf"], "l2": size["l2"], "zero_gradient": outcome.zero_gradient}
        shared = {"forwards": np.array(outcome.forwards), "backwards": np.array(outcome.backwards), "seconds": np.array(seconds)}
        return [
            {
                "adversarial": adversarial[i].cpu().numpy(),
                **({} if outcome.target is None else {"target": outcome.target[i].cpu().numpy().astype(np.int16)}),
                **{name: values[i].cpu().numpy() for name, values in per_case.items()},
                **shared,
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
        following = dataset[(self.seen + len(label)) % len(dataset)]
        donor = (following[0] if isinstance(following, list) else following)[self.label_key].to(label.device)
        if donor.shape[1:] != label.shape[2:]:
            donor = ResizeWithPadOrCrop(label.shape[2:], lazy=False)(donor)
        return torch.cat([label[1:], donor[None]])
