"""The cells of a study: models x data x attacks x defences, each with the digest of all that decides its numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_advdef.audit.kinds import read_model
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.bundle import workflows
from monai_advdef.errors import DataError
from monai_advdef.records import fingerprint
from monai_advdef.sweep.study import PATHS, Part, Study

BUNDLE, AUDIT = "bundle", "audit"
CHECKS = "checks/checks"
OF_MODELS = ("checkpoint", "classes", "activation", "unit", "value_range", "trust")
OF_DATA = ("dataset_dir", "images", "labels", "limit")
SECTION = "validate::dataset::data::section"
PARTS = ("configs", "scripts", "models")  # of a bundle's folder; results and phantoms may lie beside them


@dataclass(frozen=True)
class SweepCell:
    """One evaluation, in plain values, so that it can be handed to another process or machine.

    Args:
        id: sixteen hexadecimal digits: the digest of what is run, of the model's files, and of names and sizes of the data's.
        name: for people.
        model, data, attack, defense: what the study calls them.
        kind: ``"bundle"``: a bundle in our dialect, evaluated with overlays; ``"audit"``: any other model, audited with a suite.
        root: the model's path.
        overlays, overrides: of an evaluation, see :class:`monai_advdef.study.Cell`; ``settings`` go below the overrides.
        options: of an audit, see :class:`monai_advdef.audit.AuditOptions`.
        threads: of the CPU.
        elder: id of the cell that makes images which this one shares; empty: none does.
        registered: version of a registered model in MLflow.
    """

    id: str
    name: str
    model: str
    data: str
    attack: str
    defense: str
    kind: str
    root: str
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    elder: str = ""
    registered: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> SweepCell:
        """The cell of :meth:`plain`."""
        return cls(**{**plain, "overlays": tuple(plain["overlays"])})


def cells_of(study: Study, folder: Path) -> tuple[list[SweepCell], list[str]]:
    """Every cell of a study, and in words what of the product is not run.

    Args:
        study: see :func:`monai_advdef.sweep.read_study`.
        folder: the output folder.

    Raises:
        DataError: a model that is not there or cannot be read; a defence for a model that takes none; two cells of one digest.
    """
    made: list[SweepCell] = []
    notes: list[str] = []
    for name, model in study.models.items():
        for section, data in study.data.items():
            try:
                reading = read_model(model["model"], _options(model, data, folder))
            except ValueError as error:
                raise DataError(f"models: {name} (data: {section}): {error}") from error
            base = _Base(name, section, model, data, reading, folder)
            made += base.evaluations(study) if reading.kind == "monai_advdef bundle" else base.audits(study, notes)
    _refuse_twice(made)
    return made, list(dict.fromkeys(notes))


def _options(model: Mapping[str, Any], data: Mapping[str, Any], folder: Path) -> AuditOptions:
    given = {name: model[name] for name in OF_MODELS if model.get(name)}
    given |= {name: data[name] for name in OF_DATA if data.get(name)}
    return AuditOptions(output_dir=str(folder), overrides=model["settings"], **given)


class _Base:
    """A model on data, before attacks and defences."""

    def __init__(
        self, name: str, section: str, model: Mapping[str, Any], data: Mapping[str, Any], reading: Reading, folder: Path
    ) -> None:
        self.name, self.section, self.model, self.data, self.reading = name, section, model, data, reading
        contents = {"model": _contents(reading, model), "data": _listing(data.get("dataset_dir"), folder)}
        told = {
            k: v for k, v in {**model, **data}.items() if k not in ("model", "checkpoint", "dataset_dir", "overlays", "registered")
        }
        told["settings"] = {**model["settings"], **data["settings"]}
        self.identity = _told({**contents, **told, "name": name})

    def cell(self, attack: Part, defense: Part, **of: Any) -> SweepCell:
        """A cell with its digest."""
        told: dict[str, Any] = {name: _told(of[name]) for name in ("kind", "overrides", "threads") if name in of}
        told |= {"overlays": [_file(one) for one in of.get("overlays", ())], "base": self.identity}
        told["options"] = {k: _told(v) for k, v in of.get("options", {}).items() if k not in PATHS}  # they are in the base
        try:
            name = fingerprint(told)
        except TypeError as error:
            raise DataError(f"models: {self.name}, attacks: {attack.name}: {error}") from error
        return SweepCell(
            id=name,
            name=", ".join(filter(None, [self.name, self.section, attack.name, defense.name if defense.name != "none" else ""])),
            model=self.name,
            data=self.section,
            attack=attack.name,
            defense=defense.name,
            root=str(self.reading.root),
            registered=str(self.model.get("registered") or ""),
            **of,
        )

    def evaluations(self, study: Study) -> list[SweepCell]:
        """Of a bundle in our dialect, attack by attack, the first defence first: the others take its images."""
        settings = {**self.reading.overlay, **self.model["settings"], **self.data["settings"]}
        if self.data.get("dataset_dir"):
            settings["dataset_dir"] = self.data["dataset_dir"]
        overrides: dict[str, Any] = {"record_def::model": self.name}
        if self.data.get("section"):
            overrides[SECTION] = self.data["section"]
        if self.data.get("limit"):
            overrides |= {"batch_size": 1, "validate::evaluator::epoch_length": self.data["limit"]}
        made = []
        for attack in study.attacks:
            elder = ""
            for defense in study.defenses:
                told = {f"attack_def::{k}": v for k, v in attack.options.items()}
                told |= {f"defense_def::{k}": v for k, v in defense.options.items()}
                checked = (CHECKS,) if attack.checks else ()
                overlays = (*self.model["overlays"], *study.overlays, *defense.overlays, *attack.overlays, *checked)
                cell = self.cell(
                    attack,
                    defense,
                    kind=BUNDLE,
                    overlays=overlays,
                    overrides={**overrides, **told},
                    settings=settings,
                    threads=study.threads,
                    elder=elder,
                )
                made.append(cell)
                elder = elder or cell.id
        return made

    def audits(self, study: Study, notes: list[str]) -> list[SweepCell]:
        """Of any other model, suite by suite; each audit also evaluates it clean."""
        where = f"{self.name} is a {self.reading.kind}, which is audited as it is deployed"
        if self.data.get("section") or self.data["settings"]:
            raise DataError(
                f"data: {self.section}: {where}: section and settings are for bundles with a threat_def; leave them away"
            )
        if self.model["overlays"] or study.overlays:
            raise DataError(f"models: {where}: it takes no overlays; leave them away, or put it into a study of its own")
        if any(defense.overlays for defense in study.defenses):
            notes.append(f"{where}: it is not run behind the study's defences")
        made = []
        for attack in study.attacks:
            if not attack.overlays:
                notes.append(f"{where}: it is evaluated clean in each of its audits")
                continue
            suite = attack.overlays[0].removeprefix("suites/")
            if len(attack.overlays) > 1 or not (attack.overlays[0].startswith("suites/") or Path(suite).is_file()):
                raise DataError(f"attacks: {attack.name}: {where}: give a suite, as suites/standard, or a study of its own")
            if other := [name for name in attack.options if name != "eps"]:
                raise DataError(f"attacks: {attack.name}: {where}: of its options only eps is taken, not {other[0]!r}")
            options = {name: self.model[name] for name in OF_MODELS if self.model.get(name)}
            options |= {name: self.data[name] for name in OF_DATA if self.data.get(name)}
            options |= {"suite": suite, "checks": attack.checks, "overrides": self.model["settings"], **attack.options}
            made.append(self.cell(attack, Part("none"), kind=AUDIT, options=options, threads=study.threads))
        return made


def _contents(reading: Reading, model: Mapping[str, Any]) -> str:
    """The digest of the files that a model is made of, by their places in its folder, and of its weights."""
    root = reading.root
    if root.is_file():
        found = {root.name: root}
    else:
        among = [root / part for part in PARTS] if (root / "configs").is_dir() else [root]
        found = {f.relative_to(root).as_posix(): f for part in among for f in sorted(part.rglob("*")) if f.is_file()}
    if reading.kind == "monai_advdef bundle":  # of the weights that lie there, those which are loaded
        found = {name: file for name, file in found.items() if not name.startswith("models/")}
        found |= {f"weights {f.name}": f for f in sorted(Path(reading.overlay["ckpt_dir"]).iterdir()) if f.is_file()}
    elif model.get("checkpoint"):
        found["weights"] = Path(model["checkpoint"])
    sha = hashlib.sha256()
    for name, file in found.items():
        if "__pycache__" not in name:
            sha.update(f"{name} {_file(str(file))}\n".encode())
    return sha.hexdigest()[:16]


def _file(name: str) -> str:
    """The digest of a file, or of an overlay by its name; a name that is no file stands for itself."""
    path = workflows().get(name, Path(name))
    if not path.is_file():
        return name
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:16]


def _told(value: Any) -> Any:
    """A value of the study, in which files are told by what they hold, wherever they lie."""
    if isinstance(value, Mapping):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return _file(value) if isinstance(value, str) and os.sep in value else value


def _listing(folder: str | None, output: Path) -> str:
    """The digest of names and sizes of the files of a data set; their contents are told apart when they are loaded."""
    if not folder:
        return "the bundle's own"
    root = Path(folder)
    files = sorted(f for f in root.rglob("*") if f.is_file() and output not in f.parents) if root.is_dir() else [root]
    told = "\n".join(f"{f.relative_to(root).as_posix() if f != root else f.name} {f.stat().st_size}" for f in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _refuse_twice(cells: Sequence[SweepCell]) -> None:
    seen: dict[str, SweepCell] = {}
    for cell in cells:
        other = seen.setdefault(cell.id, cell)
        if other is not cell:
            raise DataError(f"the cells {other.name!r} and {cell.name!r} are one and the same ({cell.id}); leave one of them away")
