"""Certify every case of an evaluation, beside its ordinary scores."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor

from monai_advdef.certificates.certification import Certificate, certified_dice, certify
from monai_advdef.certificates.votes import Smoothing, Votes, draw_votes
from monai_advdef.handlers import AdversarialCache, VictimSettings
from monai_advdef.handlers.batches import batch_images, network_of
from monai_advdef.handlers.cases import Cases
from monai_advdef.handlers.cell import (
    Engine,
    add_readings,
    announce,
    case_seeds,
    defense_identity,
    defense_of,
    inferer_identity,
    network_identity,
    networks_of,
)
from monai_advdef.handlers.identity import Unidentified, digest, identity, tensor_bytes
from monai_advdef.handlers.options import gather, names_of, refuse_unknown
from monai_advdef.metrics import counts, dice
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, as_threat
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)
VOTES = ("chosen", "count", "most")  # of an image, as they are kept


class CertificateHandler:
    """Smooths the deployed network by noise and leaves, for the records, what it certifies of every case.

    ==========================================  ===================================================================================
    ``(class, "certified_dice_r<R>")``          lower bound on Dice under any change of L2 length below R (image units)
    ``("image", "abstained_r<R>")``             share of the voxels of which nothing is certified at R
    ``(class, "smoothed_dice")``                Dice of what most noisy copies say, certified or not
    ``("image", "certificate_<option>")``       sigma, n, n0, alpha
    ==========================================  ===================================================================================

    R is sigma Φ⁻¹(tau), one for each tau. Cost: n0 + n passes through the network per case; votes are kept in ``cache_dir``, so that
    each is drawn once, a killed run goes on, and other tau or alpha cost nothing. It certifies the smoothed network around *clean*
    images; what is scored as Dice beside it is the network without noise.

    Args:
        classes: names of the foreground classes in order.
        threat: of the bundle: names the unit, and gives ``sigma`` where that is ``None``: as much as the largest eps.
        sigma: see :class:`Smoothing`.
        seed: every case draws from a stream of its own made from this number and its name.
        cache_dir: where votes are kept; ``None`` keeps none.
        victim: how the network is looked at, see :class:`monai_advdef.handlers.VictimSettings`.
        image_key, label_key: keys of the batch.
        options: of :class:`Smoothing` and of :class:`monai_advdef.handlers.VictimSettings`.

    Raises:
        ValueError: of :class:`Smoothing` and :func:`certify`; an unknown option; no sigma from an unbounded or relative threat;
            during the run, an attack beside it.
    """

    @as_written
    def __init__(
        self,
        classes: Sequence[str] | str,
        *,
        threat: ThreatModel | Mapping[str, Any] | None = None,
        sigma: float | None = None,
        seed: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
        victim: VictimSettings | Mapping[str, Any] | None = None,
        image_key: str = "image",
        label_key: str = "label",
        **options: Any,
    ) -> None:
        self.view = gather(VictimSettings, victim, options)
        refuse_unknown("CertificateHandler", [o for o in options if o not in names_of(Smoothing)], names_of(Smoothing))
        self.smoothing = Smoothing(sigma=_sigma(threat) if sigma is None else sigma, **options)
        self.classes = [classes] if isinstance(classes, str) else [str(c) for c in classes]
        self.seed, self.image_key, self.label_key = int(seed), image_key, label_key
        self.cache = AdversarialCache(cache_dir) if cache_dir else None
        self.cases = Cases(None, image_key)

    def attach(self, engine: Engine) -> None:
        """Say what is measured when the run starts, and certify every batch before it is taken apart."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    def started(self, engine: Engine) -> None:
        """The settings become part of what the evaluation is called."""
        settings = {k: v for k, v in asdict(self.smoothing).items() if k != "batch_size"}
        announce(engine, "certificate", {**settings, "seed": self.seed, "victim": self.view.plain()})
        self.cases = Cases(getattr(engine.state.dataloader, "dataset", None), self.image_key)

    def __call__(self, engine: Engine) -> None:
        attacked = getattr(engine.state, "attack", None)
        if attacked is not None and attacked.iteration == engine.state.iteration:
            raise ValueError("certificates are about clean images, and these are attacked; evaluate without the attack's overlay")
        image, label = (x.to(engine.state.device) for x in batch_images(engine.state.batch, self.image_key, self.label_key))
        victim = self.view.victim(network_of(engine), engine.inferer, engine.state.device)  # type: ignore[attr-defined]
        names = self.cases.names(engine.state.batch)
        base = self._base(engine) if self.cache else ""
        readings = []
        for i, seed in enumerate(case_seeds(self.seed, names, "certificate")):
            start = time.perf_counter()
            votes = self._votes(victim, image[i : i + 1], seed, base)
            made = certify(self.smoothing, votes)
            readings.append(self._reading(victim, votes, made, label[i : i + 1]))
            words = "certified %s: %.1f %% of the voxels abstain at radius %.3g, %.1f s"
            logger.info(words, names[i], 100 * made[0].abstained, made[0].radius, time.perf_counter() - start)
        add_readings(engine, readings)

    def _reading(
        self, victim: Victim, votes: Votes, certificates: Sequence[Certificate], label: Tensor
    ) -> dict[tuple[str, str], float]:
        softmax = victim.activation == "softmax"
        k = len(self.classes) + softmax
        shape = torch.zeros(1, k, *votes.count.shape[1:], device=label.device)
        if not softmax and len(votes.count) != k:
            raise ValueError(f"classes names {k} classes ({self.classes}), the network has {len(votes.count)} channels; name each")
        if softmax and int(votes.most.max()) >= k:
            raise ValueError(f"classes names {self.classes}, the network predicts class {int(votes.most.max())}; name them all")
        truth = victim.encode(label, shape)[0].cpu()
        classes = k if softmax else None
        found = dice(*counts(votes.most[None].cpu(), truth[None], classes))[0]
        reading = {(name, "smoothed_dice"): float(v) for name, v in zip(self.classes, found)}
        for made in certificates:
            bound = certified_dice(made, truth, classes)
            reading |= {(name, f"certified_dice_r{made.radius:.4g}"): float(v) for name, v in zip(self.classes, bound)}
            reading["image", f"abstained_r{made.radius:.4g}"] = made.abstained
        told = ("sigma", "n", "n0", "alpha")
        return reading | {("image", f"certificate_{name}"): float(getattr(self.smoothing, name)) for name in told}

    def _base(self, engine: Engine) -> str:
        """What votes depend on besides the case; empty where that cannot be told, and then none are kept."""
        try:
            of = [defense_identity(defense_of(engine)), network_identity(networks_of(engine)), inferer_identity(engine.inferer)]
            told = [self.smoothing.sigma, self.smoothing.n, self.smoothing.n0, self.view.plain(), self.view.normalize]
            source = "none" if self.view.source is None else network_identity(self.view.source)
            return digest("votes", *of, source, identity(told))
        except Unidentified as error:
            logger.warning("votes are neither kept in nor taken from %s: %s", self.cache.folder, error)  # type: ignore[union-attr]
            return ""

    def _votes(self, victim: Victim, image: Tensor, seed: int, base: str) -> Votes:
        key = digest(base, str(seed), tensor_bytes(image))
        kept = self.cache.load(key) if self.cache and base else None
        if kept is not None:
            return Votes(**{n: torch.from_numpy(np.asarray(kept[n])) for n in VOTES}, n=self.smoothing.n)
        (votes,) = draw_votes(self.smoothing, victim, image, seed=[seed])
        if self.cache and base:
            self.cache.store(key, **{n: getattr(votes, n).numpy() for n in VOTES})
        return votes


def _sigma(threat: ThreatModel | Mapping[str, Any] | None) -> float:
    """The largest eps of the bundle."""
    given = None if threat is None else as_threat(threat)
    if given is None or given.norm == "unbounded" or given.relative:
        raise ValueError("sigma is not given, and there is no threat model with an eps in image units to take it from; give sigma")
    return float(np.max(given.eps))
