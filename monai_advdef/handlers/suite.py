"""Attack every batch with a frozen suite; of each case the image that hurts most goes on, and every member's score is recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from monai_advdef.defenses import DefendedInferer
from monai_advdef.handlers.attack import OWN, AttackHandler
from monai_advdef.handlers.batches import Attacked, network_of
from monai_advdef.handlers.cell import Engine, network_identity, plain, weights_of
from monai_advdef.handlers.identity import digest
from monai_advdef.handlers.options import VictimSettings, gather, names_of, refuse_unknown, take, threat_of
from monai_advdef.handlers.stored import store
from monai_advdef.suite import Suite, SuiteOutcome, attack_with, load_suite
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel, measure
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)
RUN = ("attack", "adaptive", "steps", "restarts", "forwards", "backwards", "linf", "l2", "seconds")  # columns of a member's rows
METRICS = ("dice", "iou", "target_iou", "target_overlap")


class SuiteHandler(AttackHandler):
    """Replace the image of every batch by the one, out of all that the members of a suite make, that leaves the lowest Dice.

    It is an :class:`AttackHandler` in all else. The records get, under the attack ``worst``, what the deployed pipeline makes of
    these images, and rows of every member: Dice and IoU of each class on the network's own grid, before any postprocessing. Behind
    a defence each member attacks without knowing it, and knowing it; ``worst`` that is not adaptive is the lowest of those that do
    not. A case that a member had brought to Dice 0 is not attacked by the later ones: NaN there.

    Args:
        suite: a name (``"standard"``), a file, or a mapping such as an overlay's ``suite_def``.
        threat: see :class:`AttackHandler`.
        options: ``victim``, ``adaptive``, ``seed``, ``image_key``, ``label_key``, ``cache_dir``, ``stored`` and the flat options of
            an :class:`AttackHandler`; the cache holds the members' scores, too. A ``source`` among the options of ``victim`` is the
            network of the members that transfer.

    Raises:
        DataError: a suite that is not what its digest says.
        ValueError: as :class:`AttackHandler`; an option of an attack, for the members are frozen.
    """

    @as_written
    def __init__(self, suite: Any = "standard", threat: ThreatModel | Mapping[str, Any] | None = None, **options: Any) -> None:
        own = [name for name in ("suite", "victim", *OWN) if name not in ("begin", "sweep")]
        known = [*names_of(VictimSettings), *names_of(ThreatModel), *own]
        refuse_unknown("SuiteHandler", [name for name in options if name not in known], known)
        view = gather(VictimSettings, options.pop("victim", None), options)
        threat = threat_of(threat, take(options, ThreatModel))
        super().__init__(load_suite(suite), threat, victim=replace(view, source=None), **options)  # type: ignore[arg-type]
        self.source = None if view.source is None else view
        self._source: Victim | None = None
        self._told: set[str] = set()

    @property
    def frozen(self) -> Suite:
        """The suite itself."""
        return self.attack  # type: ignore[return-value]

    @property
    def suite(self) -> str:  # type: ignore[override]
        """Its name."""
        return self.frozen.name

    @property
    def through(self) -> bool:
        """Always: members that do not know the defence are judged behind it, too."""
        return True

    def to_config(self) -> dict[str, Any]:
        """Suite, threat model and settings as plain values."""
        source = {} if self.source is None else {"source": weights_of(self.source.source)}
        return plain({**super().to_config(), "adaptive": self.adaptive, **source})

    def identity(self, threat: ThreatModel | None = None, *, through: bool = True) -> str:
        """One digest of what the images depend on besides the network, its inferer, the defence and the case."""
        source = "none" if self.source is None else network_identity(self.source.source)
        return digest(super().identity(threat, through=through), self.frozen.digest, str(self.adaptive), source)

    def _make_victim(self, engine: Engine) -> Victim:
        if self.source is not None:
            inferer = getattr(engine, "inferer", None)
            inferer = inferer.inferer if isinstance(inferer, DefendedInferer) else inferer
            self._source = self.source.victim(network_of(engine), inferer, engine.state.device).knowing(self._source)
        return super()._make_victim(engine)

    def _attack(self, image: Tensor, label: Tensor, target: Tensor | None, seeds: list[int]) -> list[list[dict[str, Any]]]:
        assert self._victim is not None
        start = time.perf_counter()
        made = attack_with(
            self.frozen, self._victim, self.threat, image, label, seed=seeds, adaptive=self.adaptive, source=self._source
        )
        seconds = (time.perf_counter() - start) / len(image)
        for note in set(made.notes) - self._told:
            logger.warning("suite %s: %s", self.suite, note)
        self._told |= set(made.notes)
        return [self._kept(image, made, seconds)]

    def _kept(self, image: Tensor, made: SuiteOutcome, seconds: float) -> list[dict[str, Any]]:
        """What is kept of every case."""
        adversarial = made.adversarial
        if self.stored == "uint8":
            adversarial = store(adversarial, self.threat.around(image.float()))
        members = _columns(made)
        zero = np.nan_to_num(members.pop("zero_gradient"), nan=-1).max(0)
        told = {"adversarial": adversarial, "score": made.score, **measure(adversarial, image.float())}
        told |= {"forwards": made.passes[:, 0], "backwards": made.passes[:, 1]}
        columns = {name: value.cpu().numpy() for name, value in told.items()}
        columns |= {"zero_gradient": np.where(zero < 0, np.nan, zero), "seconds": np.full(len(image), seconds)}
        columns |= {"assessed": np.full(len(image), made.assessed)}
        return [
            {**{name: column[i] for name, column in columns.items()}, **{f"member_{n}": v[:, i] for n, v in members.items()}}
            for i in range(len(image))
        ]

    def _more(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        defended = self._victim is not None and self._victim.defense is not None
        runs = [
            [
                {**{name: e[f"member_{name}"][m].item() for name in RUN}, "values": {n: e[f"member_{n}"][m] for n in METRICS}}
                for m in range(len(e["member_attack"]))
            ]
            for e in found
        ]
        return {"members": runs, "adaptive": defended and self.adaptive and all(bool(e["assessed"]) for e in found)}


def _columns(made: SuiteOutcome) -> dict[str, np.ndarray]:
    """Every run's columns and overlaps, (M, B) or (M, B, K) each; last the worst of those that do not know the defence."""
    told: dict[str, list[np.ndarray]] = {name: [] for name in (*RUN, *METRICS, "zero_gradient")}
    for label, adaptive, of in made.members:
        for name, value in (("attack", label), ("adaptive", adaptive), ("steps", of.steps), ("restarts", of.restarts)):
            told[name].append(np.full(len(made.score), value))
        for name, values in (
            *(
                ("forwards", of.passes[:, 0]),
                ("backwards", of.passes[:, 1]),
                ("linf", of.linf.nan_to_num()),
                ("l2", of.l2.nan_to_num()),
            ),
            *(("seconds", of.seconds), ("zero_gradient", of.zero_gradient)),
            *((name, getattr(of.judged, name)) for name in METRICS),
        ):
            told[name].append(values.cpu().numpy())
    found = {name: np.stack(values) for name, values in told.items()}
    return _with_oblivious(found, made.clean.dice.cpu().numpy(), made.clean.iou.cpu().numpy())


def _with_oblivious(found: dict[str, np.ndarray], dice: np.ndarray, iou: np.ndarray) -> dict[str, np.ndarray]:
    """The columns and, behind a defence that was attacked adaptively, one more row: of each case the lowest of the oblivious runs,
    or the clean image (``dice`` and ``iou``, (B, K)) where none is lower."""
    adaptive = found["adaptive"].any(1)
    if not adaptive.any():
        return found
    rows, cases = np.flatnonzero(~adaptive), np.arange(len(dice))
    values = np.where(np.isnan(found["dice"]), np.inf, found["dice"]).mean(2)[rows]
    best = rows[values.argmin(0)]
    clean = ~(values.min(0) < dice.mean(1))
    last = {name: column[best, cases].copy() for name, column in found.items()}
    last["attack"] = np.full(len(cases), Suite.label)
    for name in ("steps", "restarts", "forwards", "backwards"):
        last[name] = found[name][rows].sum(0) if name != "restarts" else np.ones(len(cases), dtype=int)
    last["dice"][clean], last["iou"][clean], last["linf"][clean], last["l2"][clean] = dice[clean], iou[clean], 0, 0
    last["target_iou"][:], last["target_overlap"][:] = np.nan, np.nan
    last["seconds"] = found["seconds"][rows].sum(0)
    return {name: np.concatenate([column, last[name][None]]) for name, column in found.items()}


def member_rows(
    attacked: Attacked | None, i: int, about: Mapping[str, Any], classes: Sequence[str], hidden: set[str]
) -> list[dict[str, Any]]:
    """The rows of the runs of a suite on case ``i`` of the batch: ``about`` with what is each run's own; of a targeted one the IoU
    of prediction and target too. Classes that are ``hidden`` have none."""
    rows = []
    for member in attacked.members[i] if attacked is not None and attacked.members else ():
        own = {**about, **{name: member[name] for name in RUN}}
        for metric in METRICS:
            if metric.startswith("target") and np.isnan(member["values"][metric]).all():
                continue
            values = {name: float(v) for name, v in zip(classes, member["values"][metric]) if name not in hidden}
            rows += [{**own, "class": name, "metric": metric, "value": value} for name, value in values.items()]
    return rows
