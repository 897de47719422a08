"""The audit of a model: read it, say what will be done, attack it as it is deployed, and say what that shows."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from rich.console import Console

from monai_advdef import gates as gating
from monai_advdef.audit.building import built, unwrapped, workflow
from monai_advdef.audit.isolation import SOCKET
from monai_advdef.audit.kinds import read_model
from monai_advdef.audit.module import as_cases
from monai_advdef.audit.outcome import Audit, print_plan, write_audit
from monai_advdef.audit.pairing import require_own_labels
from monai_advdef.audit.plan import TimeLeft, device_of, planned
from monai_advdef.audit.privacy import Mask, Person, hidden_groups, masking, pseudonyms, write_key
from monai_advdef.audit.reading import AuditOptions, Fact, Reading
from monai_advdef.audit.scoring import OwnMetric, explain, grids_apart
from monai_advdef.audit.socket import as_texts, plugged, write_socket
from monai_advdef.audit.tail import NotDifferentiable
from monai_advdef.audit.threats import recovered
from monai_advdef.audit.wording import own_options
from monai_advdef.bundle import workflows
from monai_advdef.errors import DataError, nearest
from monai_advdef.handlers import AdversarialCache, RecordHandler
from monai_advdef.handlers.guard import Suspect
from monai_advdef.handlers.options import names_of, unit
from monai_advdef.neighbours import check_writable
from monai_advdef.progress import Steps, Terminal
from monai_advdef.records import read_records, read_verdicts
from monai_advdef.report import build, build_evidence
from monai_advdef.report.subgroups import read_groups
from monai_advdef.study import quiet
from monai_advdef.suite import load_suite
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)


def audit(model: Any, data: Any = None, **options: Any) -> Audit:
    """Audit a model on data as it is deployed: clean, and under the worst case of a suite, with checks.

    Args:
        model: the path of a MONAI bundle, an nnU-Net results folder or a TorchScript file; or a network, bare or ``Given`` with what
            stands around it.
        data: the folder of the data; of a network the cases, see :func:`monai_advdef.audit.module.as_cases`.
        options: the fields of :class:`AuditOptions`.

    Raises:
        ValueError: an unknown option, with the nearest known one; a gate that cannot be read; what a model, its data or the threat
            model lack.
    """
    known = names_of(AuditOptions)
    for name in options:
        if name not in known:
            raise ValueError(f"audit has no option {name!r}; {nearest(name, known)}")
    folder = {"dataset_dir": str(data)} if isinstance(data, (str, Path)) else {}
    chosen = AuditOptions(**{**folder, **options})
    cases = None if data is None or isinstance(data, (str, Path)) else as_cases(data)
    return _Course(model, cases, chosen, Terminal()).run()


class _Course:
    """One audit from its reading to its card."""

    def __init__(self, model: Any, cases: Sequence[Mapping[str, Any]] | None, options: AuditOptions, console: Console) -> None:
        self.model, self.cases, self.options, self.console = model, cases, options, console
        self.gates = gating.parse_gates(options.gates, labels=not options.unlabelled)
        self.margin = gating.check_margin(options.margin)
        if options.baseline:
            gating.check_baseline(options.baseline)
        if options.groups:
            read_groups(options.groups)
        self.suite = load_suite(options.suite)
        self.folder = Path(options.output_dir).expanduser().resolve()
        self.device = device_of(options.device)
        self.files: list[Path] = []
        self.overrides: dict[str, Any] = {}
        self.made = Audit(self.folder, suite=self.suite)
        self.people: list[Person] = []
        self.mask: Mask | None = None
        self.run_of: list[str] = []  # fingerprints of this audit's evaluations
        self.groups: Path | None = None
        self.called = ""  # the model, in their records: the folder may hold those of others
        self.passing: list[AdversarialCache] = []  # images of its evaluations, dropped when all are done

    def run(self) -> Audit:
        """All of it; what is recorded and logged meanwhile names no patient, see :mod:`monai_advdef.audit.privacy`."""
        quiet()
        self._require_own_folder()
        check_writable(output_dir=self.folder)
        with own_options(), masking(lambda text: text if self.mask is None else self.mask(text)):
            return self._run()

    def _require_own_folder(self) -> None:
        """Refuse to write among the files of the model or the data."""
        for what, given in (("model", self.model), ("dataset_dir", self.options.dataset_dir)):
            if isinstance(given, (str, os.PathLike)) and str(given) and Path(given).expanduser().resolve() == self.folder:
                raise DataError(f"output_dir {self.folder} is the {what} itself; give a folder of its own")

    def _run(self) -> Audit:
        reading = self.made.reading = read_model(self.model, self.options, self.cases)
        self._configure(reading)
        self._plan()
        self._check_tables()
        print_plan(self.made, self.console)
        write_audit(self.made)
        if not self.options.dry_run:
            try:
                self._evaluate_all()
            except NotDifferentiable as error:  # of a case behind those that were looked at
                logger.warning("%s", error)
                self.run_of = []
                self._configure(reading, every=True)
                self._plan()
                print_plan(self.made, self.console)
                self._evaluate_all()
            self._conclude()
        return self.made

    def _configure(self, reading: Reading, *, every: bool = False) -> None:
        """The configuration files of the clean evaluation, and what is given over them."""
        if SOCKET not in reading.overlay:
            self.files, self.overrides = reading.files, self._ours(reading)
            return
        config = plugged(reading, str(self.folder), self.device)
        config[SOCKET]["labelled"] = not self.options.unlabelled
        if self.options.limit:
            config[SOCKET]["cases"] = config[SOCKET]["cases"][: self.options.limit]
        socket = config[SOCKET]
        if not self.options.unlabelled:
            require_own_labels(socket["cases"], socket["image_key"], socket["label_key"])
        socket["cases"] = self._hide(socket["cases"], socket["image_key"], [*socket["classes"], socket["name"], socket["task"]])
        found = recovered(config, reading, self.options, every=every)
        config[SOCKET] |= found.division()
        config["threat_def"] = {"_target_": "monai_advdef.ThreatModel", **as_texts(found.threat())}
        self.made.notes = [*reading.notes, *found.notes]
        self.made.facts = [*reading.facts, *found.facts()]
        known = workflows()
        common = [known["audit/evaluate"], *([known["audit/unlabelled"]] if self.options.unlabelled else [])]
        try:
            self.files, self.overrides = [*write_socket(config, self.folder), *common], {}
        except TypeError:  # a network from Python: its parts are no text
            self.files, self.overrides = common, config

    def _hide(self, cases: Sequence[Mapping[str, Any]], image_key: str, keep: Sequence[str]) -> list[dict[str, Any]]:
        """The cases under pseudonyms; from here on their names and files are masked in all that is written and logged."""
        made, self.people = pseudonyms(cases, image_key=image_key)
        write_key(self.folder, self.people)
        self.mask = Mask(self.people, folders=[self.options.dataset_dir] if self.options.dataset_dir else [], keep=keep)
        return made

    def _ours(self, reading: Reading) -> dict[str, Any]:
        """What is given to a bundle in our dialect."""
        if self.options.unlabelled:
            raise DataError(f"labels none: the bundle {reading.name} is evaluated with labels; give them")
        self.made.notes, self.made.facts = list(reading.notes), list(reading.facts)
        options = self.options
        given = {"eps": options.sizes[-1] if options.sizes else None, "unit": options.unit, "value_range": options.value_range}
        told = {f"threat_def::{name}": value for name, value in given.items() if value not in (None, "")}
        told |= {"dataset_dir": options.dataset_dir} if options.dataset_dir else {}
        few = f"$min({options.limit}, len(@validate::dataset))"  # an epoch that is longer than the data begins them anew
        told |= {"batch_size": 1, "validate::evaluator::epoch_length": few} if options.limit else {}
        ours = {"output_dir": str(self.folder), "bundle_root": str(reading.root)}
        return {**ours, **reading.overlay, **options.settings, **told}

    def _attack(self) -> list[Path]:
        known = workflows()
        suite = known.get(f"suites/{self.options.suite}", Path(self.options.suite))
        return [suite, *([known["checks/checks"]] if self.options.checks else [])]

    def _plan(self) -> None:
        """Look at the first case once."""
        parser = workflow([*self.files, *self._attack()], self.overrides).parser
        dataset, handler, evaluator = (built(parser, name) for name in ("validate::dataset", "attack_def", "validate::evaluator"))
        if not len(dataset):
            raise DataError("there is no case to audit on; name the files with --images and --labels")
        if self.mask is None:  # a bundle in our dialect: its cases keep their names, from which random starts are drawn
            self._hide(dataset.data, "image", built(parser, "record_def").classes)
        with unwrapped():
            batch = next(iter(evaluator.data_loader))
        image, label = (batch[key].to(self.device) for key in ("image", "label"))
        inferer = evaluator.inferer
        if hasattr(inferer, "prepare") and hasattr(inferer.prepare, "hold"):
            inferer.prepare.hold(image, batch["fed"].to(self.device))
        image, label = (x.as_tensor() if hasattr(x, "as_tensor") else x for x in (image, label))
        victim: Victim = handler.view.victim(evaluator.network, inferer, self.device)
        handler.threat.around(image.float())
        self.made.threat = {name: value for name, value in asdict(handler.threat).items() if name != "region"}
        self._check_gates(handler.threat, built(parser, "record_def").classes)
        cases = min(self.options.limit or len(dataset), len(dataset))
        checked = min(cases, built(parser, "checks_def").cases) if self.options.checks else 0
        if checked and getattr(getattr(inferer, "prepare", None), "spatial", False):
            checked = 1  # the grid of each case is its own
        self.made.plan = planned(
            victim,
            image.float()[:1],
            self.suite,
            handler.threat,
            cases=cases,
            budgets=max(1, len(self.options.sizes)),
            checked=checked,
        )
        self.made.notes += [self.made.plan.doubt] * bool(self.made.plan.doubt)

    def _check_tables(self) -> None:
        """Refuse groups and a baseline of other cases, before the work."""
        if self.options.groups:
            self.groups = hidden_groups(self.options.groups, self.people, self.folder)
        if self.options.baseline:
            gating.check_baseline(self.options.baseline, [person.case for person in self.people])

    def _check_gates(self, threat: ThreatModel, classes: Sequence[str]) -> None:
        """Refuse a gate on a number that will not be recorded, before the work."""
        attacks = [self.suite.name, *(member.label for member in self.suite.attacks)]
        sizes, labels = self.options.sizes or [float(np.max(threat.eps))], not self.options.unlabelled
        gating.check_plan(self.gates, sizes=sizes, unit=unit(threat), classes=classes, attacks=attacks, labels=labels)

    def _evaluate_all(self) -> None:
        bare = {"record_def::card": False}  # the suite's evaluation makes it, and the end anew
        clean = self._evaluate("clean", self.files, bare)
        if "own_metric_def" in clean.parser and not self.options.unlabelled:
            self._compare_own(built(clean.parser, "own_metric_def"), built(clean.parser, "record_def"))
        sizes: Sequence[float | None] = self.options.sizes or [None]
        for eps in sizes:
            size: dict[str, Any] = {} if eps is None else {"attack_def::eps": eps}
            of = "" if eps is None else f", eps {eps:g}"
            noise = [*self.files, workflows()["attacks/noise"]]
            self._evaluate(f"under noise{of}", noise, {**size, **bare, "attack_def::cache_dir": None})
            self._evaluate(f"under the suite {self.suite.name}{of}", [*self.files, *self._attack()], size)
        for cache in self.passing:  # an audit that was stopped goes on with the images of every size
            cache.drop()

    def _evaluate(self, what: str, files: Sequence[Path], size: Mapping[str, Any] = MappingProxyType({})) -> ConfigWorkflow:
        made = workflow(files, {"keep": "unfinished", **self.overrides, **size})
        evaluator = built(made.parser, "validate::evaluator")
        batches = int(evaluator.state.epoch_length or len(evaluator.data_loader))
        with Steps(f"evaluating {what}", batches, self.console) as steps:
            left = TimeLeft(steps)
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, left)
            try:
                with unwrapped():
                    made.run()
            except Suspect:  # told in checks.json, on the card, and by the exit code
                pass
        made.finalize()
        attack = built(made.parser, "attack_def")
        if attack is not None and attack.cache is not None and attack.cache.passing:
            self.passing.append(attack.cache)
        records: RecordHandler = built(made.parser, "record_def")
        self.run_of.append(records.fingerprint)
        self.called = records.of["model"]
        return made

    def _compare_own(self, own: OwnMetric, records: RecordHandler) -> None:
        """The model's own key metric as a fact, and as notes why the Dice of the records is another number."""
        rows = read_records(records.records / f"{records.fingerprint}.parquet")
        means = {name: float(rows.loc[rows["metric"] == name, "value"].mean()) for name in ("network_dice", "dice")}
        for score in own.scores:
            self.made.facts.append(Fact(f"own {score.name}", f"{score.value:.4f}, clean", "the model's own evaluation"))
        for name, why in own.failed.items():
            self.made.facts.append(Fact(f"own {name}", "cannot be computed", "the model's own evaluation"))
            self.made.notes.append(f"the model's own key metric {name} fails on what its postprocessing leaves ({why})")
        told = [note for score in own.scores for note in explain(score, means["network_dice"], means["dice"])]
        apart = grids_apart(means["network_dice"], means["dice"])
        self.made.notes += told or [apart] * bool(apart)

    def _conclude(self) -> None:
        """Gates, exit code, card and evidence."""
        checks = {name: entry for name, entry in read_verdicts(self.folder).items() if name in self.run_of}
        verdicts = [verdict for entry in checks.values() for verdict in entry["verdicts"]]
        results = gating.evaluate_gates(self.gates, self.folder, model=self.called) if self.gates else []
        if self.options.baseline:
            found = gating.evaluate_baseline(self.folder, self.options.baseline, margin=self.margin, model=self.called)
            results = [*results, *found]
        self.made.verdicts, self.made.gates = verdicts, results
        self.made.code = gating.exit_code(verdicts, results)
        write_audit(self.made)
        if self.options.junit:
            assert self.made.reading is not None
            gating.write_junit(self.options.junit, results, checks, name=self.made.reading.name)
        build(self.folder, groups=self.groups, model=self.called, run=self.run_of[-1])
        build_evidence(self.folder, model=self.called, run=self.run_of[-1])
        self.console.print(gating.in_words(verdicts, results), highlight=False, markup=False, soft_wrap=True)
        self.console.print(f"card: {self.made.card}", highlight=False, markup=False, soft_wrap=True)
