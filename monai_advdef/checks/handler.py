"""Check the first cases of an evaluation with its own attack, threat model and view of the victim."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from monai_advdef.checks.bounds import declared as as_declared
from monai_advdef.checks.core import Verdict
from monai_advdef.checks.run import run_checks
from monai_advdef.defenses import DefendedInferer
from monai_advdef.handlers import AttackHandler, AttackNotApplied, RecordHandler
from monai_advdef.handlers.batches import batch_images, network_of
from monai_advdef.handlers.cell import Engine, case_seeds, outward
from monai_advdef.records import add_verdicts
from monai_advdef.suite import Suite
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)


class ChecksHandler:
    """Runs the checks on the first cases of an attacked evaluation and writes ``checks.json`` beside its records.

    The cases are those of the first batches that are of the first one's size, or of the first batch where a deployed preprocessing
    moves voxels, by the grid of each case. Nothing that is evaluated changes. The verdicts are
    logged, stand under the evaluation's fingerprint beside those of others, on the card and in MLflow's tags, and the run ends with
    exit code 1 where one of them is not ``ok``. List it after the attack.

    Args:
        attack: the ``AttackHandler`` of this run.
        records: its ``RecordHandler``, which must stand before this handler.
        cases: how many are looked at.
        only: names of :data:`monai_advdef.checks.CHECKS`; all of them by default.
        declared: the bundle's ``threat_def``, with which the attack's threat model is compared.

    Raises:
        ValueError: no attack or no records are configured; ``cases`` below 1; when it runs, an unknown name in ``only``.
    """

    @as_written
    def __init__(
        self,
        *,
        attack: AttackHandler,
        records: RecordHandler,
        cases: int = 4,
        only: Sequence[str] = (),
        declared: ThreatModel | Mapping[str, Any] | None = None,
    ) -> None:
        for name, given in (("attack", attack), ("records", records)):
            if given is None:
                raise ValueError(
                    f"{name}_def is not configured, and checks are about an attack: list them after evaluate.yaml and it"
                )
        if cases < 1:
            raise ValueError(f"cases must be a whole number ≥ 1, got {cases!r}; 4 say enough")
        self.attack, self.records, self.cases, self.only = attack, records, cases, [only] if isinstance(only, str) else list(only)
        self.declared = as_declared(declared)
        self.verdicts: list[Verdict] = []
        self._held: list[dict[str, Any]] = []
        self._names: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Look at batches after they have been attacked and before they are scored."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def started(self, engine: Engine) -> None:
        """Nothing is checked yet."""
        self.verdicts, self._held, self._names, engine.state.verdicts = [], [], [], []

    def __call__(self, engine: Engine) -> None:
        if self.verdicts:
            return
        self._collect(engine)
        if len(self._held) >= self.cases or _one_by_one(engine) or engine.state.iteration % (engine.state.epoch_length or 1) == 0:
            self._check(engine)

    def _collect(self, engine: Engine) -> None:
        attacked = getattr(engine.state, "attack", None)
        if attacked is None or attacked.iteration != engine.state.iteration:
            raise AttackNotApplied(
                f"no attack has touched batch {engine.state.iteration} before its checks; list the checks after the attack"
            )
        batch = engine.state.batch
        image, label = (x.to(engine.state.device) for x in batch_images(batch, self.attack.image_key, self.attack.label_key))
        for i, name in enumerate(self.attack.cases.names(batch)):
            found = {"image": attacked.clean[i], "label": label[i], "adversarial": image[i]}
            found |= {} if attacked.target is None else {"target": attacked.target[i]}
            if not self._held or all(found[key].shape == self._held[0][key].shape for key in found):
                self._held.append(found)
                self._names.append(name)

    def _check(self, engine: Engine) -> None:
        names = self._names[: self.cases]
        held = {key: torch.stack([torch.as_tensor(case[key]) for case in self._held[: self.cases]]) for key in self._held[0]}
        image, label = held.pop("image"), held.pop("label")
        self.verdicts = run_checks(
            self._victim(engine),
            self.attack.threat,
            image,
            label,
            seed=case_seeds(self.attack.seed, names),
            names=names,
            only=self.only,
            declared=self.declared,
            **self._known(held),
        )
        for verdict in self.verdicts:
            level = logging.INFO if verdict.verdict == "ok" else logging.WARNING
            logger.log(level, "check %s: %s, %s", verdict.name, verdict.verdict, verdict.evidence)
        columns = self.records.columns
        about = {name: columns[name] for name in ("attack", "defense", "adaptive", "unit")}
        about["eps"] = columns["eps"] if columns["eps"] < float("inf") else "no bound"
        plain = outward([verdict.plain() for verdict in self.verdicts])
        add_verdicts(self.records.folder, self.records.fingerprint, {**about, "cases": outward(names), "verdicts": plain})
        engine.state.verdicts = plain  # type: ignore[attr-defined]
        self._held = []

    def _known(self, held: dict[str, Tensor]) -> dict[str, Any]:
        """The attack (of a suite its first member, and the others), and of what it has left that which the checks can use."""
        attack, others = self.attack.attack, []
        if isinstance(attack, Suite):
            attack, *others = [member.attack for member in attack.attacks if not member.transfer]
        if attack.target != "other_case":  # the others are made from the label and the clean prediction
            held.pop("target", None)
        if self.attack.stored != "float32" or self.attack.view.source is not None:
            held.pop("adversarial")  # of another attack than the one that is repeated here
        others = [other for other in others if "adversarial" in held and other.target == attack.target]
        return {"attack": attack, "others": others, **held}

    def _victim(self, engine: Engine) -> Victim:
        """The victim as this run's attacker sees it."""
        inferer = getattr(engine, "inferer", None)
        if isinstance(inferer, DefendedInferer) and not self.attack.through:
            inferer = inferer.inferer
        return self.attack.view.victim(network_of(engine), inferer, engine.state.device)


def _one_by_one(engine: Engine) -> bool:
    """Whether the preprocessing in front of the inferer knows the grid of this batch alone, so that later ones cannot join it."""
    inferer = getattr(engine, "inferer", None)
    inferer = inferer.inferer if isinstance(inferer, DefendedInferer) else inferer
    return bool(getattr(getattr(inferer, "prepare", None), "spatial", False))
