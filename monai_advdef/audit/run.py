"""The audit of a model: read it, say what will be done, attack it as it is deployed, and say what that shows."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigWorkflow
from rich.console import Console
from rich.table import Table

from monai_advdef import __version__
from monai_advdef.audit.isolation import SOCKET
from monai_advdef.audit.kinds import read_model
from monai_advdef.audit.plan import Plan, default_device, timed
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.socket import plugged, write_socket
from monai_advdef.bundle import home, workflows
from monai_advdef.errors import DataError, nearest
from monai_advdef.handlers.guard import Suspect
from monai_advdef.handlers.options import names_of
from monai_advdef.neighbours import check_writable, whole
from monai_advdef.progress import Terminal
from monai_advdef.records import read_verdicts
from monai_advdef.report import build
from monai_advdef.study import quiet
from monai_advdef.suite import load_suite
from monai_advdef.victim import Victim

FINE, SUSPECT = 0, 1


@dataclass
class Audit:
    """What an audit left: its ``folder`` with records, card and ``audit.json``, and the ``code`` a process ends with."""

    folder: Path
    code: int = FINE
    reading: Reading | None = None
    plan: Plan | None = None
    threat: dict[str, Any] = field(default_factory=dict)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    gates: list[Any] = field(default_factory=list)

    @property
    def card(self) -> Path:
        """The Robustness Card."""
        return self.folder / "card.html"


def audit(model: Any, data: Any = None, **options: Any) -> Audit:
    """Audit a model on data as it is deployed: clean, and under the worst case of a suite, with checks.

    Args:
        model: the path of a MONAI bundle, an nnU-Net results folder or a TorchScript file; or a network, bare or ``Given`` with what
            stands around it.
        data: the folder of the data; of a network a list of mappings with ``image`` and ``label``.
        options: the fields of :class:`AuditOptions`.

    Raises:
        ValueError: an unknown option, with the nearest known one; what a model, its data or the threat model lack.
    """
    known = names_of(AuditOptions)
    for name in options:
        if name not in known:
            raise ValueError(f"audit has no option {name!r}; {nearest(name, known)}")
    folder = {"dataset_dir": str(data)} if isinstance(data, (str, Path)) else {}
    chosen = AuditOptions(**{**folder, **options})
    cases = data if isinstance(data, Sequence) and not isinstance(data, str) else None
    return _Course(model, cases, chosen, Terminal()).run()


def built(workflow: ConfigWorkflow, name: str) -> Any:
    """An object of a configuration.

    Raises:
        ValueError, OSError: why it cannot be made, in place of MONAI's word that it could not.
    """
    try:
        return workflow.parser.get_parsed_content(name)
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, (ValueError, OSError)):
            cause = cause.__cause__
        if isinstance(cause, (ValueError, OSError)):
            raise cause from error
        raise ValueError(f"{error}: {type(cause).__name__}: {cause}") from error


class _Course:
    """One audit from its reading to its card."""

    def __init__(self, model: Any, cases: Sequence[Mapping[str, Any]] | None, options: AuditOptions, console: Console) -> None:
        self.model, self.cases, self.options, self.console = model, cases, options, console
        self.folder = Path(options.output_dir).expanduser().resolve()
        self.device = options.device or default_device()
        self.suite = load_suite(options.suite)
        self.made = Audit(self.folder)

    def run(self) -> Audit:
        """All of it."""
        quiet()
        check_writable(output_dir=self.folder)
        reading = self.made.reading = read_model(self.model, self.options, self.cases)
        files, overrides = self._configured(reading)
        self._plan(files, overrides)
        self._print()
        self._write()
        if self.options.dry_run:
            return self.made
        self._evaluate("clean", files, overrides)
        self._evaluate(f"under the suite {self.suite.name}", [*files, *self._attack()], overrides)
        self._conclude()
        return self.made

    def _configured(self, reading: Reading) -> tuple[list[Path], dict[str, Any]]:
        """The configuration files of the clean evaluation, and what is given over them."""
        common = {"output_dir": str(self.folder), "bundle_root": str(reading.root)}
        if SOCKET not in reading.overlay:
            folder = {"dataset_dir": self.options.dataset_dir} if self.options.dataset_dir else {}
            given = {"eps": self.options.eps, "unit": self.options.unit, "value_range": self.options.value_range}
            threat = {f"threat_def::{name}": value for name, value in given.items() if value not in (None, "")}
            first = {"batch_size": 1, "validate::evaluator::epoch_length": self.options.limit} if self.options.limit else {}
            return reading.files, {**common, **folder, **reading.overlay, **threat, **first}
        threat = self._threat(reading)
        config = plugged(reading, threat, str(self.folder), self.device)
        if self.options.limit:
            config[SOCKET]["cases"] = config[SOCKET]["cases"][: self.options.limit]
        common_file = home("workflows") / "audit" / "evaluate.yaml"
        try:
            return [*write_socket(config, self.folder), common_file], {}
        except TypeError:  # a network from Python: its parts are no text
            return [common_file], config

    def _threat(self, reading: Reading) -> dict[str, Any]:
        options = self.options
        return {"eps": options.eps or 8.0, "unit": options.unit or "HU", "value_range": options.value_range or "image"}

    def _attack(self) -> list[Path]:
        known = workflows()
        suite = known.get(f"suites/{self.options.suite}", Path(self.options.suite))
        return [suite, *([known["checks/checks"]] if self.options.checks else [])]

    def _plan(self, files: list[Path], overrides: dict[str, Any]) -> None:
        """Look at the first case once."""
        made = self._workflow([*files, *self._attack()], overrides)
        dataset, handler, evaluator = (built(made, name) for name in ("validate::dataset", "attack_def", "validate::evaluator"))
        if not len(dataset):
            raise DataError("there is no case to audit on; name the files with --images and --labels")
        item = dataset[0]
        image, label = (torch.as_tensor(item[key])[None].to(self.device) for key in ("image", "label"))
        image, label = (x.as_tensor() if hasattr(x, "as_tensor") else x for x in (image, label))
        victim: Victim = handler.view.victim(evaluator.network, evaluator.inferer, self.device)
        handler.threat.around(image.float())
        self.made.threat = asdict(handler.threat)
        self.made.plan = timed(victim, image.float(), label, self.suite.count(handler.threat), len(dataset))

    def _workflow(self, files: Sequence[Path], overrides: Mapping[str, Any]) -> ConfigWorkflow:
        made = ConfigWorkflow([str(f) for f in files], meta_file=None, logging_file=False, workflow_type=None, **overrides)
        made.initialize()
        return made

    def _evaluate(self, what: str, files: Sequence[Path], overrides: Mapping[str, Any]) -> None:
        self.console.print(f"evaluating {what}")
        made = self._workflow(files, overrides)
        try:
            made.run()
        except Suspect:  # told in checks.json, on the card, and by the exit code
            pass
        made.finalize()

    def _conclude(self) -> None:
        entries = read_verdicts(self.folder)
        self.made.verdicts = [verdict for entry in entries.values() for verdict in entry["verdicts"]]
        if any(verdict["verdict"] != "ok" for verdict in self.made.verdicts):
            self.made.code = SUSPECT
        build(self.folder)
        self._write()
        self.console.print(f"card: {self.made.card}")

    def _print(self) -> None:
        reading, plan = self.made.reading, self.made.plan
        assert reading is not None and plan is not None
        shown = Table("what", "value", "where from", title=f"{reading.kind} {reading.name}", title_justify="left")
        for fact in reading.facts:
            shown.add_row(fact.field, fact.value, fact.source)
        for name in ("norm", "eps", "unit", "value_range"):
            shown.add_row(name, str(self.made.threat[name]), "threat model")
        for name, value in plan.lines():
            shown.add_row(name, value, f"suite {self.suite.name}")
        self.console.print(shown)
        for note in reading.notes:
            self.console.print(f"note: {note}", highlight=False)

    def _write(self) -> None:
        """``audit.json``: all that was found, planned and concluded."""
        reading, plan = self.made.reading, self.made.plan
        assert reading is not None and plan is not None
        held = {
            "model": {"name": reading.name, "kind": reading.kind},
            "suite": {"name": self.suite.name, "version": self.suite.version, "digest": self.suite.digest},
            "threat": {name: value for name, value in self.made.threat.items() if name != "region"},
            "facts": [asdict(fact) for fact in reading.facts],
            "notes": reading.notes,
            "plan": asdict(plan),
            "dry_run": self.options.dry_run,
            "verdicts": self.made.verdicts,
            "gates": self.made.gates,
            "exit_code": self.made.code,
            "versions": {
                "monai_advdef": __version__,
                "monai": monai.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        with whole(self.folder / "audit.json") as new:
            new.write_text(json.dumps(held, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
