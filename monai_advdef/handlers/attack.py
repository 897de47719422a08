"""Attack every batch of a MONAI evaluator or trainer before its own forward pass."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import Trainer
from torch import Tensor, nn

from monai_advdef.attacks import Attack, Outcome, run, run_sweep
from monai_advdef.defenses import DefendedInferer
from monai_advdef.defenses.quantiser import STARTS, way_of
from monai_advdef.handlers.batches import Attacked, batch_images, network_of, put_image
from monai_advdef.handlers.cache import AdversarialCache, Kept, recalled
from monai_advdef.handlers.cases import Cases, other_case
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
from monai_advdef.handlers.stored import STORED, check_size, entries
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)
Crafting = Callable[[Tensor, Tensor, "Tensor | None", list[int]], Kept]
OWN = ("adaptive", "seed", "image_key", "label_key", "cache_dir", "stored", "begin", "sweep")  # what the handler itself is told
MEASURES = ("score", "linf", "l2", "forwards", "backwards", "seconds", "zero_gradient")


class AttackNotApplied(RuntimeError):
    """An attack was configured, yet batches went through without it: the numbers would have looked robust."""


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
            ``normalize``, ``draws``, ``step_precision``, ``compiled``, ``heads``, ``kept_windows``, ``surrogate``, ``smoothness``,
            ``logit_scale``, ``source``, ``source_name``), which go before it.
        adaptive: whether the attacker knows the defence.
        seed: every case draws from a stream of its own made from this number and its name.
        image_key, label_key: keys of the batch.
        cache_dir: where adversarial images are kept, so that each is crafted once and a killed run resumes; ``None`` keeps none.
        stored: ``"float32"``, or ``"uint8"``: adversarial images are rounded to 256 levels of the value range, as a file would
            hold them, before anything sees them.
        begin: ``"own"``: where the attack itself begins; ``"oblivious"``: behind a defence, at the images of the same attack on the
            network without it, out of the cache where they are, their passes counted; elsewhere it does nothing.
        sweep: budgets whose images are crafted along with those of ``eps``, sharing gradients where their descents agree (see
            :func:`monai_advdef.attacks.run_sweep`), and kept in the cache for the evaluations that come.

    Raises:
        ValueError: unknown attack, option, ``stored`` or ``begin``; a ``sweep`` without ``cache_dir``; a threat that does not say
            what the images are; see also :class:`VictimSettings` and :func:`monai_advdef.run`.
    """

    suite = ""
    """Name of the frozen suite, where the attack is one."""

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
        begin: str = "own",
        sweep: Sequence[float] | float = (),
        **options: Any,
    ) -> None:
        if stored not in STORED:
            raise ValueError(f"stored must be one of {', '.join(STORED)}, got {stored!r}")
        if begin not in STARTS:
            raise ValueError(f"begin must be one of {', '.join(STARTS)}, got {begin!r}; own is where the attack itself begins")
        self.view = gather(VictimSettings, victim, options)
        self.attack, self.threat = resolve(attack, threat, options, [*names_of(VictimSettings), *OWN])
        self.adaptive, self.seed = adaptive, int(seed)
        self.image_key, self.label_key, self.stored, self.begin = image_key, label_key, stored, begin
        self.cache = AdversarialCache(cache_dir) if cache_dir else None
        sweep = [sweep] if isinstance(sweep, (int, float)) else sweep
        if sweep and self.cache is None:
            raise ValueError(f"sweep {list(sweep)} needs cache_dir, a folder for the images of the other budgets")
        self.threats = [self.threat, *(replace(self.threat, eps=float(eps)) for eps in sweep if eps != self.threat.eps)]
        self.touched = self.seen = 0
        self._victim: Victim | None = None
        self._bases: list[str] = []
        self._bare: list[str] = []  # of the images of the same attack without the defence
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
    def through(self) -> bool:
        """Whether images are looked at through the defence while they are crafted."""
        return self.adaptive

    @property
    def label(self) -> str:
        """The attack's short name, and what tells it apart: all heads, images stored with 8 bits, another network's, and how it goes
        through a defence."""
        return self.named(through=True)

    def named(self, *, through: bool) -> str:
        """The `label` of an evaluation whose images were crafted ``through`` a defence, or not."""
        view = self.view
        told = [self.attack.label, "on all heads" if view.heads else "", "(8-bit)" if self.stored == "uint8" else ""]
        told.append(f"on logits x {view.logit_scale:g}" if view.logit_scale != 1 else "")
        told.append(f"from {view.source_name}" if view.source is not None else "")
        told.append(way_of(view.surrogate, view.smoothness, self.begin) if through else "")
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
        told |= {"surrogate": self.view.surrogate, "smoothness": self.view.smoothness, "begin": self.begin}
        return plain({**told, **({} if source is None else {"source": weights_of(source)})})

    def identity(self, threat: ThreatModel | None = None, *, through: bool = True) -> str:
        """One digest of what the images depend on besides the network they are crafted on, its inferer, the defence and the case.

        Args:
            threat: another than the handler's.
            through: whether the images are crafted through a defence: only there ``surrogate``, ``smoothness`` and ``begin`` count.

        Raises:
            Unidentified: the attack or the normaliser cannot be told from another of its kind.
        """
        view = self.view
        settings = [self.seed, self.stored, view.plain(), [view.surrogate, view.smoothness, self.begin] if through else None]
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
            self._bases = self._fingerprints(engine, through=self.through) if self.cache else []
            self._bare = self._fingerprints(engine, through=False) if self._bases and self.begin != "own" else []
        seeds = case_seeds(self.seed, names, f"epoch {engine.state.epoch}" if trainer else "")
        aims = self.attack.target == "other_case"
        target = other_case(engine, label, self.label_key, self.seen + len(names), trainer=trainer) if aims else None
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
        if isinstance(inferer, DefendedInferer) and not self.through:
            inferer = inferer.inferer
        return self.view.victim(network_of(engine), inferer, engine.state.device)

    def _fingerprints(self, engine: Engine, *, through: bool) -> list[str]:
        """What the images of each budget depend on, besides the case; nothing where that cannot be told, and then none is kept."""
        try:
            defense = defense_of(engine) if through else None
            network = network_identity(networks_of(engine) if self.view.source is None else self.view.source)
            of = [defense_identity(defense), network, inferer_identity(engine.inferer)]
            return [digest(self.identity(threat, through=defense is not None), *of) for threat in self.threats]
        except Unidentified as error:
            logger.warning("adversarial images are neither kept in nor taken from %s: %s", self.cache.folder, error)  # type: ignore[union-attr]
            return []

    def _craft(
        self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """Adversarial images (from the cache where they are), their targets, and what they measure and cost, an entry per case."""
        clean = image.as_tensor() if isinstance(image, MetaTensor) else image
        found = [held[0] for held in self._made(self._bases, 1, self._attack, clean, label, target, seeds)]
        adversarial, aim = (
            torch.stack([torch.as_tensor(e[name]) for e in found]).to(clean.device) if name in found[0] else None
            for name in ("adversarial", "target")
        )
        assert adversarial is not None
        return adversarial, aim, {n: [e[n].item() for e in found] for n in MEASURES} | self._more(found)

    def _made(
        self, bases: list[str], budgets: int, attack: Crafting, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]
    ) -> Kept:
        """What is kept of every case, of the first ``budgets``: from the cache, or by ``attack``, which fills it for all budgets."""
        keys = [[self._key(base, i, image, label, target, s) for base in bases] for i, s in enumerate(seeds)]

        def craft(todo: list[int]) -> Kept:
            return attack(image[todo], label[todo], None if target is None else target[todo], [seeds[i] for i in todo])

        clean = image.float() if image.dtype == torch.bfloat16 else image  # of which numpy knows nothing
        return recalled(self.cache, keys, budgets, craft, clean.cpu().numpy())

    def _more(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        """What else of the cases goes into ``Attacked``, out of what is kept of each."""
        return {}

    def _attack(self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]) -> Kept:
        """What is kept of every case, for each budget in turn."""
        return self._against(False, image, label, target, seeds)

    def _against(self, bare: bool, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]) -> Kept:
        """The attack on the victim, or on it without its defence."""
        assert self._victim is not None
        begun, victim = time.perf_counter(), self._victim.without_defense() if bare else self._victim
        threats = self.threats if self._bases or self.cache is None else self.threats[:1]
        given: dict[str, Any] = {"target": target, "seed": seeds}
        if self.begin == "own" or victim.defense is None or self.attack.count(self.threat) == 0:
            outcomes = run_sweep(self.attack, victim, threats, image, label, **given)
        else:
            outcomes = []
            made = self._made(self._bare, len(threats), partial(self._against, True), image, label, target, seeds)
            for threat, held in zip(threats, zip(*made)):
                start = torch.stack([torch.as_tensor(e["adversarial"]) for e in held]).to(image.device)
                outcomes.append(run(self.attack, victim, threat, image, label, start=start, **given))
                outcomes[-1].passes += torch.tensor([[e["forwards"].item(), e["backwards"].item()] for e in held])
        seconds = (time.perf_counter() - begun) / len(image) / len(outcomes)
        return [self._entries(image, outcome, seconds) for outcome in outcomes]

    def _entries(self, image: Tensor, outcome: Outcome, seconds: float) -> list[dict[str, Any]]:
        return entries(image, outcome, self.threat.around(image.float()) if self.stored == "uint8" else None, seconds)

    def _key(self, base: str, i: int, image: Tensor, label: Tensor, target: Tensor | None, seed: int) -> str:
        aim = label[i] if target is None else target[i]
        return digest(base, str(seed), tensor_bytes(image[i]), tensor_bytes(label[i]), tensor_bytes(aim))
